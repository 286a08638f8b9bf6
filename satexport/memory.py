"""How much memory there is, how much streams need at least, and giving back what was read once."""

from __future__ import annotations

import ctypes
import mmap
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from math import prod
from pathlib import Path

import numpy as np

from satexport.bundle.contract import Contract
from satexport.errors import UsageError
from satexport.models.sat.variants import HOP

MEMINFO = Path("/proc/meminfo")
GROUP = Path("/sys/fs/cgroup")  # of version 2
MAPS = Path("/proc/self/maps")
GIVE_BACK_SECONDS = 0.005
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


@contextmanager
def giving_back(*paths: Path) -> Iterator[None]:
    """Give back, while the block runs, the memory into which parts of files are mapped, or of those in a
    folder: what a runtime reads once, to pack it for its kernels, it would hold twice from then on. Read-only
    mappings alone: their pages come back from the file when they are read again. Does nothing where there is
    no /proc or madvise."""
    done = threading.Event()

    def work() -> None:
        while not done.wait(GIVE_BACK_SECONDS):
            _give_back(paths)

    thread = threading.Thread(target=work, daemon=True)
    if MAPS.exists() and hasattr(mmap, "MADV_DONTNEED"):
        thread.start()
    try:
        yield
    finally:
        done.set()
        if thread.ident is not None:
            thread.join()
            _give_back(paths)


def _give_back(paths: Sequence[Path]) -> None:
    """madvise(2) over the read-only mappings of files, as /proc/self/maps lists them (proc(5))."""
    madvise = ctypes.CDLL(None).madvise
    madvise.argtypes = ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int
    for line in MAPS.read_text("utf-8", errors="replace").splitlines():
        addresses, permissions, _, _, _, *names = line.split(maxsplit=5)
        mapped = Path(*names)
        if "w" not in permissions and any(path in (mapped, mapped.parent) for path in paths):
            first, last = (int(address, 16) for address in addresses.split("-"))
            madvise(first, last - first, mmap.MADV_DONTNEED)


def _sizes(path: Path) -> dict[str, int]:
    """The lines of a file, a name and a number each."""
    lines = path.read_text("ascii").splitlines()
    return {name: int(number) for name, number, *_ in map(str.split, lines)}
