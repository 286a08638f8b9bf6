"""How much memory there is, and how much streams need at least."""

from __future__ import annotations

from contextlib import suppress
from math import prod
from pathlib import Path

import numpy as np

from satexport.contract import Contract
from satexport.errors import UsageError
from satexport.variants import HOP

MEMINFO = Path("/proc/meminfo")
GROUP = Path("/sys/fs/cgroup")  # of version 2
FRAME_BYTES = 4 * 2 * 576  # per frame of the two largest tensors of the front end


def state_bytes(contract: Contract) -> int:
    """Bytes of one stream's cache, one copy of it."""
    return sum(np.dtype(spec.dtype).itemsize * prod(spec.shape[1:]) for spec in contract.cache_in)


def check_streams(contract: Contract, count: int) -> None:
    """Raise `UsageError` where so many streams cannot fit into what is free: two copies of each
    cache, and the largest tensors of one step."""
    free = available_bytes()
    each = 2 * state_bytes(contract) + FRAME_BYTES * (contract.chunk_samples // HOP)
    if free is not None and count * each > free:
        advice = f"Ask for {free // each} or fewer." if free >= each else "That is too little for one."
        raise UsageError(f"{count} streams of {contract.variant} need {count * each / 1e9:.1f} GB at least, "
                         f"{free / 1e9:.1f} GB are free. {advice}")


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
