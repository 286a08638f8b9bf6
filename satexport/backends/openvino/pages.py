"""Release memory that OpenVINO needs only while it loads a model.

It maps weights and packs them for its kernels, so it would hold them twice, and most of its code is for
compiling a model. A release after the load is too late for the peak, which counts. Code is released for the
whole process, so a step that runs meanwhile has to read its own again.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from satexport.pages import Range, mapped_data, mapped_file_bytes, release, release_libraries, trim_heap

INTERVAL_SECONDS = 0.001
GROWTH_BYTES = 6_000_000  # of mapped files in memory, until they are released
_reading = threading.Lock()


def read_mapped(read: Callable[[], Any], file: Path) -> tuple[Any, Collection[Range]]:
    """Call a function that maps a file; return its result and where the file is mapped since. If no other
    function maps the same file, it stays there as long as the result lives."""
    with _reading:
        before = mapped_data(file)
        return read(), mapped_data(file) - before


@contextmanager
def releasing(weights: Collection[Range], libraries: Path) -> Iterator[None]:
    """While the block runs, release the pages of mapped weights, which must stay mapped meanwhile, of the
    code of the libraries in a folder, and what malloc keeps of memory that was freed: each time that mapped
    files have grown by GROWTH_BYTES in memory. At the end, release code and freed memory once more. Does
    nothing on a system other than Linux."""
    done = threading.Event()

    def release_repeatedly() -> None:
        floor = mapped_file_bytes()
        while floor and not done.wait(INTERVAL_SECONDS):
            if mapped_file_bytes() > floor + GROWTH_BYTES:
                release(weights)
                release_libraries(libraries)
                trim_heap()
                if (rest := mapped_file_bytes()) > floor + GROWTH_BYTES:  # something else needs it
                    floor = rest
            floor = min(floor, mapped_file_bytes() or floor)

    thread = threading.Thread(target=release_repeatedly, name="release pages", daemon=True)
    with suppress(RuntimeError):  # the system allows no more threads
        thread.start()
    try:
        yield
    finally:
        done.set()
        if thread.ident is not None:
            thread.join()
        release_libraries(libraries)
        trim_heap()
