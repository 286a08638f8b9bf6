"""How much memory is available."""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path

MB = 1e6  # bytes
MEMINFO = Path("/proc/meminfo")
GROUP = Path("/sys/fs/cgroup")  # control group, version 2


def available_bytes() -> int | None:
    """Memory that is available without swapping: the smaller one of Linux' MemAvailable and the remaining
    limit of the control group, where the file cache counts as available. None if neither is known."""
    limits = []
    with suppress(OSError, ValueError, KeyError):
        limits.append(1024 * _read_sizes(MEMINFO)["MemAvailable:"])
    with suppress(OSError, ValueError, KeyError):  # ValueError: "max", which means no limit
        left = int((GROUP / "memory.max").read_text("ascii")) - int(
            (GROUP / "memory.current").read_text("ascii"))
        used = _read_sizes(GROUP / "memory.stat")
        limits.append(max(0, left + used["inactive_file"] + used["active_file"]))
    return min(limits, default=None)


def _read_sizes(path: Path) -> dict[str, int]:
    """Read a file whose lines are a name and a number each."""
    lines = path.read_text("ascii").splitlines()
    return {name: int(number) for name, number, *_ in map(str.split, lines)}
