"""How busy the machine is with other work."""

from __future__ import annotations

import os
import time
from contextlib import suppress
from pathlib import Path

STAT = Path("/proc/stat")
SECONDS = 0.5
WAITING = (3, 4)   # fields of the first line: idle, and idle while a disk works
FIELDS = 8         # those after them are parts of the first ones


def busy_cores(seconds: float = SECONDS, stat: Path = STAT) -> float | None:
    """Wait for some seconds, and return how many cores other programs kept busy meanwhile: 0.0 to the number
    of cores. None if the system does not tell. The load average would not do: it is a mean over a minute and
    contains what this program did itself."""
    with suppress(OSError, ValueError, IndexError, ZeroDivisionError):
        before = _times(stat)
        time.sleep(seconds)
        passed = [after - first for first, after in zip(before, _times(stat), strict=True)]
        return (1 - sum(passed[field] for field in WAITING) / sum(passed)) * (os.cpu_count() or 1)
    return None


def _times(stat: Path) -> list[int]:
    """Return the ticks that all cores spent in each state since the machine started."""
    with stat.open("rb") as file:
        return [int(word) for word in file.readline().split()[1:1 + FIELDS]]
