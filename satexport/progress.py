"""Progress bars on standard error."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from satexport.terminal import printable

HOUR = 3600  # s

_shown: list[Any] = []  # bars that have begun; only the last one is on the screen


@contextmanager
def progress(label: str, total: float | None, done: int = 0, unit: str = "parts"
             ) -> Iterator[Callable[..., None]]:
    """Show a progress bar of one line on standard error if that is a terminal, in place of the one around it.
    Yields a function to call after each part, or with a number of completed parts. `total` is None if
    unknown; `done` parts were completed before. With the unit "bytes" the bar shows size and speed; with
    "audio", whose parts are seconds of it, hours and how many times faster than real time they go."""
    if sys.stderr is None or not sys.stderr.isatty():  # None: a service, a GUI program
        yield lambda parts=1: None
        return
    bar = _make_bar(unit)
    task = bar.add_task(printable(label), total=total, completed=done)
    if _shown:
        _shown[-1].stop()
    _shown.append(bar)
    try:
        with bar:
            yield lambda parts=1: bar.advance(task, parts)
    finally:
        _shown.pop()
        if _shown:
            _shown[-1].start()


def _make_bar(unit: str) -> Any:
    """Return a bar as wide as the terminal: label, bar, what is completed, remaining time. A long label is
    cut off."""
    from rich.console import Console
    from rich.progress import (
        BarColumn,
        DownloadColumn,
        Progress,
        ProgressColumn,
        TaskProgressColumn,
        TextColumn,
        TimeRemainingColumn,
        TransferSpeedColumn,
    )
    from rich.table import Column

    console = Console(stderr=True)

    def column(most: int | None = None) -> Column:
        return Column(no_wrap=True, overflow="ellipsis", max_width=most)

    columns: list[ProgressColumn] = [
        TextColumn("{task.description}", markup=False, table_column=column(console.width // 2)),
        BarColumn(None, table_column=Column(ratio=1, min_width=4, max_width=40))]
    if unit == "bytes":
        columns += [DownloadColumn(table_column=column()), TransferSpeedColumn(table_column=column())]
    elif unit == "audio":
        columns.append(_audio_column(column()))
    else:
        columns.append(TaskProgressColumn(table_column=column()))
    columns.append(TimeRemainingColumn(compact=True, table_column=column()))
    return Progress(*columns, console=console, transient=True, expand=True)


def _audio_column(table_column: Any) -> Any:
    """A column such as "1.3/10.0 h, 310 x real time"."""
    from rich.progress import ProgressColumn
    from rich.text import Text

    class AudioColumn(ProgressColumn):
        def render(self, task: Any) -> Text:
            rate = f", {task.speed:.0f} x real time" if task.speed else ""
            return Text(f"{task.completed / HOUR:.1f}/{task.total / HOUR:.1f} h{rate}")

    return AudioColumn(table_column)
