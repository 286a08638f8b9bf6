"""Release the memory of mapped files that a runtime reads only once."""

from __future__ import annotations

import ctypes
import mmap
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

MAPS = Path("/proc/self/maps")
INTERVAL_SECONDS = 0.005


@contextmanager
def release_mapped_pages(*paths: Path) -> Iterator[None]:
    """While the block runs, release the pages of these mapped files, or of mapped files in these folders.

    A runtime that maps weights and packs them for its kernels would otherwise hold them twice. Only read-only
    mappings are released; their pages are read from the file again when needed. Does nothing on a system
    without /proc or madvise."""
    done = threading.Event()

    def release_repeatedly() -> None:
        while not done.wait(INTERVAL_SECONDS):
            _release(paths)

    thread = threading.Thread(target=release_repeatedly, daemon=True)
    if MAPS.exists() and hasattr(mmap, "MADV_DONTNEED"):
        thread.start()
    try:
        yield
    finally:
        done.set()
        if thread.ident is not None:
            thread.join()
            _release(paths)


def _release(paths: Sequence[Path]) -> None:
    """Call madvise(2) on the read-only mappings of these files, as /proc/self/maps lists them (proc(5))."""
    madvise = ctypes.CDLL(None).madvise
    madvise.argtypes = ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int
    for line in MAPS.read_text("utf-8", errors="replace").splitlines():
        addresses, permissions, _, _, _, *names = line.split(maxsplit=5)
        mapped = Path(*names)
        if "w" not in permissions and any(path in (mapped, mapped.parent) for path in paths):
            first, last = (int(address, 16) for address in addresses.split("-"))
            madvise(first, last - first, mmap.MADV_DONTNEED)
