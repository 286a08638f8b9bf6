"""Reports and tables on a terminal."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Sequence

from satexport.report.table import Block, Cell, Table
from satexport.terminal import printable, say

UNFOLDED = 1000  # columns if standard output is not a terminal, so that programs read whole names


def print_blocks(blocks: Iterable[Block]) -> None:
    """Print blocks on standard output."""
    for block in blocks:
        if isinstance(block, Table):
            print_table(block)
        else:
            say(block)


def print_table(table: Table) -> None:
    """Print a table on standard output. Each row becomes a block of lines if the terminal is too narrow for
    the longest word of each column, or if rich is not installed, as on a board."""
    cells = [["\n".join(map(printable, _lines(cell))) for cell in row] for row in (table.head, *table.rows)]
    try:
        from rich.console import Console
        from rich.table import Table as RichTable
        from rich.text import Text
    except ModuleNotFoundError:
        _print_rows(table.title, *cells)
        return
    console = Console(width=None if sys.stdout.isatty() else UNFOLDED)
    words = [max(len(word) for cell in column for word in (*cell.split(), ""))
             for column in zip(*cells, strict=True)]
    if sum(words) + 3 * len(words) + 1 > console.width:  # each column has a border and two spaces
        _print_rows(table.title, *cells)
        return
    say(table.title)  # rich would wrap it to the width of the table
    grid = RichTable(header_style="bold")
    for number, column in enumerate(cells[0]):
        grid.add_column(Text(column), justify="left" if number < table.texts else "right", overflow="fold")
    for row in cells[1:]:
        grid.add_row(*map(Text, row))
    with console.capture() as text:  # otherwise rich ends the process if the reader of a pipe has closed it
        console.print(grid)
    print(text.get(), end="")


def _lines(cell: Cell) -> Sequence[str]:
    return (cell,) if isinstance(cell, str) else cell


def _print_rows(title: str, columns: Sequence[str], *rows: Sequence[str]) -> None:
    """Print a block of lines for each row."""
    say(title)
    for row in rows:
        print()
        for column, cell in zip(columns, row, strict=True):
            name = f"{column}: " if column else ""
            if cell:
                say(f"{name}{cell}".replace("\n", ", "))
