"""Release memory that a runtime needs only while it loads a model."""

from __future__ import annotations

import ctypes
import mmap
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

MAPS = Path("/proc/self/maps")
INTERVAL_SECONDS = 0.002
ROUNDS_PER_TRIM = 10  # malloc_trim walks through all free memory


@contextmanager
def release_mapped_pages(*paths: Path) -> Iterator[None]:
    """While the block runs, release the pages of these mapped files, or of mapped files in these folders, and
    what malloc keeps of memory that was freed.

    A runtime that maps weights and packs them for its kernels would otherwise hold them twice, and most of
    its code is for compiling a model only. Released are pages that the system can read from the file again:
    of data that is mapped for reading, and of code. (The constants of a library are private and have
    addresses in them, which are not in the file.) Does nothing on a system without /proc or madvise."""
    done = threading.Event()

    def release_repeatedly() -> None:
        rounds = 0
        while not done.wait(INTERVAL_SECONDS):
            rounds += 1
            _release(paths, trim=rounds % ROUNDS_PER_TRIM == 0)

    thread = threading.Thread(target=release_repeatedly, daemon=True)
    if MAPS.exists() and hasattr(mmap, "MADV_DONTNEED"):
        thread.start()
    try:
        yield
    finally:
        done.set()
        if thread.ident is not None:
            thread.join()
            _release(paths, trim=True)


def _release(paths: Sequence[Path], trim: bool) -> None:
    """Call madvise(2) on the mappings of these files that are shared or code and cannot be written, as
    /proc/self/maps lists them (proc(5)), and malloc_trim(3), which only glibc has."""
    libc = ctypes.CDLL(None)
    libc.madvise.argtypes = ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int
    for line in MAPS.read_text("utf-8", errors="replace").splitlines():
        addresses, permissions, _, _, _, *names = line.split(maxsplit=5)
        mapped = Path(*names)
        if permissions in ("r--s", "r-xs", "r-xp") and any(path in (mapped, mapped.parent) for path in paths):
            first, last = (int(address, 16) for address in addresses.split("-"))
            libc.madvise(first, last - first, mmap.MADV_DONTNEED)
    if trim and hasattr(libc, "malloc_trim"):
        libc.malloc_trim(0)
