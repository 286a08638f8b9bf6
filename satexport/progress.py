"""Progress of long work, as a bar on standard error."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager


@contextmanager
def progress(label: str, total: int | None, done: int = 0, unit: str = "parts"
             ) -> Iterator[Callable[..., None]]:
    """Give a function to call after each part, or with the number of parts, of `total` (None where
    nobody knows): a progress bar on standard error where that is a terminal, nothing elsewhere.
    `done` parts were there before; of bytes it shows size and speed."""
    if sys.stderr is None or not sys.stderr.isatty():  # None: a service, a GUI program
        yield lambda parts=1: None
        return
    from rich.console import Console
    from rich.progress import DownloadColumn, Progress, TransferSpeedColumn

    columns = Progress.get_default_columns()  # label, bar, share, time that remains
    if unit == "bytes":
        columns = *columns[:2], DownloadColumn(), TransferSpeedColumn(), columns[-1]
    with Progress(*columns, console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task(label, total=total, completed=done)
        yield lambda parts=1: bar.advance(task, parts)
