"""The pages of this process' memory: put weights on huge pages, release code that ran only once."""

from __future__ import annotations

import ctypes
import mmap
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path

import numpy as np

SETTING = Path("/sys/kernel/mm/transparent_hugepage/enabled")
HUGE = 2 << 20        # bytes of a huge page on x86 and ARM with pages of 4 KB
COLLAPSE = 25         # MADV_COLLAPSE of madvise(2), since Linux 6.1
PRESENT = 1 << 63     # bit of an entry of /proc/self/pagemap: the page is in memory


@contextmanager
def huge_pages() -> Iterator[None]:
    """After the block, move the memory that it allocated and still uses to huge pages.

    Linux puts memory on huge pages by itself only if the machine is set to "always", most are set to
    "madvise". A step reads all weights, and with pages of 4 KB the addresses of each are looked up again.
    Only huge pages that are entirely in use are made, so the resident size stays the same. Does nothing on
    other systems, before Linux 6.1, and on a machine whose setting is "never"."""
    before = _allocated()
    yield
    with suppress(OSError):
        if "[never]" not in SETTING.read_text("ascii"):
            _collapse(before)


def release_code(folder: Path) -> None:
    """Release the code of the libraries in this folder. What runs again is read again, from the system's file
    cache (4 ms in the next step); what ran only to load a model does not count as resident any more. Does
    nothing on a system without /proc or madvise."""
    folder = folder.resolve()  # as the system lists it
    with suppress(OSError, AttributeError), open("/proc/self/maps", encoding="utf-8",
                                                 errors="replace") as maps:
        for line in maps:
            addresses, permissions, _, _, _, *names = line.rstrip("\n").split(maxsplit=5)
            if permissions.startswith("r-x") and Path(*names).parent == folder:
                start, end = _limits(addresses)  # other pages of a library differ from its file
                _madvise(start, end - start, mmap.MADV_DONTNEED)


def _madvise(start: int, size: int, advice: int) -> None:
    """Call madvise(2), and ignore whether it succeeds."""
    madvise = ctypes.CDLL(None).madvise
    madvise.argtypes = ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int
    madvise(start, size, advice)


def _limits(addresses: str) -> tuple[int, int]:
    start, end = (int(address, 16) for address in addresses.split("-"))
    return start, end


def _collapse(before: Mapping[int, int]) -> None:
    """Move all memory in use that is not in the ranges `before` to huge pages."""
    pages = HUGE // mmap.PAGESIZE
    with open("/proc/self/pagemap", "rb", buffering=0) as pagemap:
        for start, end in _allocated().items():
            first = max(start, before.get(start, start))  # a range may have grown
            first, count = -(-first // HUGE), end // HUGE - -(-first // HUGE)
            if count <= 0:
                continue
            pagemap.seek(first * pages * 8)
            entries = np.frombuffer(pagemap.read(count * pages * 8), np.uint64)
            used = (entries >= PRESENT).reshape(-1, pages).all(1)
            for number in np.flatnonzero(used):
                _madvise((first + int(number)) * HUGE, HUGE, COLLAPSE)


def _allocated() -> dict[int, int]:
    """Return the ranges of addresses of the process' private memory that is in no file, start -> end, as
    /proc/self/maps lists them (proc(5)); {} if there is no such file."""
    ranges = {}
    with suppress(OSError), open("/proc/self/maps", encoding="utf-8", errors="replace") as maps:
        for line in maps:
            addresses, permissions, _, _, inode, *name = line.split()
            if inode == "0" and permissions.startswith("rw-p") and name in ([], ["[heap]"]):
                start, end = _limits(addresses)
                ranges[start] = end
    return ranges
