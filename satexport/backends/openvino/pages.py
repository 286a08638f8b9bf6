"""Release memory that OpenVINO needs only while it loads a model.

It maps weights and packs them for its kernels, so it would hold them twice, and most of its code is for
compiling a model. A release after the load is too late for the peak, which counts. Code is released for the
whole process, so a step that runs meanwhile has to read its own again.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from satexport.pages import mapped_file_bytes, release, trim_heap

INTERVAL_SECONDS = 0.001
GROWTH_BYTES = 6_000_000  # of mapped files in memory, until they are released


@contextmanager
def releasing(*paths: Path) -> Iterator[None]:
    """While the block runs, release the pages of mapped weights and code (files, or folders of files), and
    what malloc keeps of memory that was freed, each time that mapped files have grown by GROWTH_BYTES in
    memory; and at the end. Does nothing on a system other than Linux."""
    done = threading.Event()

    def release_repeatedly() -> None:
        lowest = mapped_file_bytes()
        while not done.wait(INTERVAL_SECONDS):
            if mapped_file_bytes() > lowest + GROWTH_BYTES:
                release(*paths)
                trim_heap()
            lowest = min(lowest, mapped_file_bytes())

    thread = threading.Thread(target=release_repeatedly, name="release pages", daemon=True)
    with suppress(RuntimeError):  # the system allows no more threads
        thread.start()
    try:
        yield
    finally:
        done.set()
        if thread.ident is not None:
            thread.join()
        release(*paths)
        trim_heap()
