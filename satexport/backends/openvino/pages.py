"""Give memory back into which a runtime has mapped files that it reads once."""

from __future__ import annotations

import ctypes
import mmap
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

MAPS = Path("/proc/self/maps")
GIVE_BACK_SECONDS = 0.005


@contextmanager
def release_mapped_pages(*paths: Path) -> Iterator[None]:
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
