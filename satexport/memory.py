"""How much memory there is, and how much streams need at least."""

from __future__ import annotations

from math import prod
from pathlib import Path

import numpy as np

from satexport.contract import Contract
from satexport.errors import UsageError
from satexport.variants import HOP

FRAME_BYTES = 4 * 2 * 544  # per frame of the two largest tensors of the front end


def state_bytes(contract: Contract) -> int:
    """Bytes of one stream's cache, one copy of it."""
    return sum(np.dtype(spec.dtype).itemsize * prod(spec.shape[1:]) for spec in contract.cache_in)


def check_streams(contract: Contract, count: int) -> None:
    """Raise `UsageError` where so many streams cannot fit into what is free: two copies of each
    cache, and the largest tensors of one step."""
    free = available_bytes()
    each = 2 * state_bytes(contract) + FRAME_BYTES * (contract.chunk_samples // HOP)
    if free is not None and count * each > free:
        raise UsageError(f"{count} streams of {contract.variant} need {count * each / 1e9:.1f} GB at least, "
                         f"{free / 1e9:.1f} GB are free. Ask for {max(1, free // each)} or fewer.")


def available_bytes() -> int | None:
    """Memory that can be taken without swapping: Linux's MemAvailable, or what is left of the
    control group's limit where that is less; None where neither is known."""
    found = []
    try:
        for line in Path("/proc/meminfo").read_text("ascii").splitlines():
            if line.startswith("MemAvailable:"):
                found.append(int(line.split()[1]) * 1024)
        group = Path("/sys/fs/cgroup")
        limit = (group / "memory.max").read_text("ascii").strip()
        if limit != "max":
            found.append(int(limit) - int((group / "memory.current").read_text("ascii")))
    except (OSError, ValueError):
        pass
    return min(found) if found else None
