"""Release memory that OpenVINO needs only while it loads a model.

It maps weights and packs them for its kernels, so it would hold them twice, and most of its code is for
compiling a model. A release after the load is too late for the peak, which counts: released only once at the
end, the code of SAT-T in int8 adds 23 MB to it, that of SAT-B 31 MB. Code is released for the whole process,
so a step that runs meanwhile has to read its own again: 0.2 ms in the median, if that happens every 20 ms.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path

from satexport.pages import release, trim_heap

INTERVAL_SECONDS = 0.002
ROUNDS_PER_CODE = 10  # rounds until code and freed memory are released, too


@contextmanager
def releasing(weights: Sequence[Path], code: Path) -> Iterator[None]:
    """While the block runs, release the pages of mapped weights (files, or folders of files) every 2 ms;
    every 20 ms, and at the end, also those of the libraries in the folder `code` and what malloc keeps of
    memory that was freed. Does nothing on a system other than Linux."""
    done = threading.Event()

    def release_repeatedly() -> None:
        rounds = 0
        while not done.wait(INTERVAL_SECONDS):
            rounds += 1
            release(*weights)
            if rounds % ROUNDS_PER_CODE == 0:
                release(code)
                trim_heap()

    thread = threading.Thread(target=release_repeatedly, name="release pages", daemon=True)
    with suppress(RuntimeError):  # the system allows no more threads
        thread.start()
    try:
        yield
    finally:
        done.set()
        if thread.ident is not None:
            thread.join()
        release(*weights, code)
        trim_heap()
