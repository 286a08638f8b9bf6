"""Move memory to huge pages, so that the CPU finds weights with fewer look-ups of addresses."""

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


def _collapse(before: Mapping[int, int]) -> None:
    """Move all memory in use that is not in the ranges `before` to huge pages."""
    madvise = ctypes.CDLL(None).madvise
    madvise.argtypes = ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int
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
                madvise((first + int(number)) * HUGE, HUGE, COLLAPSE)


def _allocated() -> dict[int, int]:
    """Return the ranges of addresses of the process' private memory that is in no file, start -> end, as
    /proc/self/maps lists them (proc(5)); {} if there is no such file."""
    ranges = {}
    with suppress(OSError), open("/proc/self/maps", encoding="utf-8", errors="replace") as maps:
        for line in maps:
            addresses, permissions, _, _, inode, *name = line.split()
            if inode == "0" and permissions.startswith("rw-p") and name in ([], ["[heap]"]):
                start, end = (int(address, 16) for address in addresses.split("-"))
                ranges[start] = end
    return ranges
