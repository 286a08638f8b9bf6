"""How much memory there is, how much streams need at least, and giving back what was read once."""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path

MB = 1e6  # bytes
MEMINFO = Path("/proc/meminfo")
GROUP = Path("/sys/fs/cgroup")  # of version 2


def available_bytes() -> int | None:
    """Memory that can be taken without swapping: Linux's MemAvailable, or what is left of the
    control group's limit where that is less, files that the kernel would let go not counted as
    taken; None where neither is known."""
    found = []
    with suppress(OSError, ValueError, KeyError):
        found.append(1024 * _sizes(MEMINFO)["MemAvailable:"])
    with suppress(OSError, ValueError, KeyError):  # "max": no limit
        left = int((GROUP / "memory.max").read_text("ascii")) - int(
            (GROUP / "memory.current").read_text("ascii"))
        kept = _sizes(GROUP / "memory.stat")
        found.append(max(0, left + kept["inactive_file"] + kept["active_file"]))
    return min(found, default=None)


def _sizes(path: Path) -> dict[str, int]:
    """The lines of a file, a name and a number each."""
    lines = path.read_text("ascii").splitlines()
    return {name: int(number) for name, number, *_ in map(str.split, lines)}
