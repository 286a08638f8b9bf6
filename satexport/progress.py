"""Progress bars on standard error."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager


@contextmanager
def progress(label: str, total: int | None, done: int = 0, unit: str = "parts"
             ) -> Iterator[Callable[..., None]]:
    """Show a progress bar on standard error if that is a terminal. Yields a function to call after each part,
    or with a number of completed parts. `total` is None if unknown; `done` parts were completed before. With
    the unit "bytes" the bar shows size and speed."""
    if sys.stderr is None or not sys.stderr.isatty():  # None: a service, a GUI program
        yield lambda parts=1: None
        return
    from rich.console import Console
    from rich.progress import DownloadColumn, Progress, TransferSpeedColumn

    columns = Progress.get_default_columns()  # label, bar, percentage, remaining time
    if unit == "bytes":
        columns = *columns[:2], DownloadColumn(), TransferSpeedColumn(), columns[-1]
    with Progress(*columns, console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task(label, total=total, completed=done)
        yield lambda parts=1: bar.advance(task, parts)
