"""Tables and lists that people write: UTF-8 text, one entry per line; a csv is read strictly.

What does not fit its header is refused with its line, for a cell that is passed over in silence is a label
that is missing. Standard library only: a device reads labels, too.
"""

from __future__ import annotations

import csv
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

from satexport.errors import DataError
from satexport.files import read_at_most

MAX_BYTES = 32_000_000  # of a table; AudioSet's list of balanced clips has 1.3 MB, VGGSound's 8
MAX_LINES = 250_000
HOW_TO_WRITE = ("put a cell that holds a comma between quotes, and several labels into one cell, between "
                "semicolons")
Row = tuple[int, list[str]]  # number of its line, from 1, and its cells


def read_lines(path: Path, expected: str, most: int = MAX_BYTES) -> list[str]:
    r"""The lines of a text of at most so many bytes; they end at \n, \r\n or \r and at nothing else.

    Raises `DataError`, which says what was `expected`, where it is no UTF-8 or too long.
    """
    try:
        text = read_at_most(path, most).decode("utf-8-sig")
    except FileNotFoundError:
        raise DataError(f"{path}: no such file; {expected}") from None
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"{path}: cannot be read as text in UTF-8 ({error}); {expected}") from None
    if "\0" in text:
        raise DataError(f"{path}: holds zero bytes, as UTF-16 and programs do; {expected}")
    text = text.replace("\r\n", "\n").replace("\r", "\n")
    if text.count("\n") > MAX_LINES:
        raise DataError(f"{path}: has more than {MAX_LINES} lines, which no set needs; {expected}")
    return text.split("\n")


def read_cells(path: Path, lines: Iterable[str]) -> Iterator[Row]:
    """The rows of a csv, cells without outer spaces; rows without a word are left out. A quote ends in its
    line: a lone one would take in all lines up to the next. Raises `DataError`."""
    for number, line in enumerate(lines, start=1):
        try:
            cells = next(csv.reader([line.rstrip()], skipinitialspace=True, strict=True), [])
        except csv.Error as error:
            problem = "a quote is opened and not closed" if "end of data" in str(error) else str(error)
            raise DataError(f"{path}, line {number}: not a csv ({problem}); {HOW_TO_WRITE}.") from None
        if any(cell.strip() for cell in cells):
            yield number, [cell.strip() for cell in cells]


def read_rows(path: Path, lines: Sequence[str], columns: Sequence[str], optional: Sequence[str] = (),
              expected: str = "") -> list[tuple[int, dict[str, str]]]:
    """The number of its line and the cells of some columns of each row of a csv with a header; of `optional`
    columns those that are there. Raises `DataError` where a column is missing (it then says what else was
    `expected`) or there twice, where there is no row, and for a row with more or fewer cells than the header;
    empty ones at its end do not count."""
    rows = read_cells(path, lines)
    _, header = next(rows, (1, []))
    if absent := [name for name in columns if name not in header]:
        raise DataError(f"{path}: no column {', '.join(absent)} in its first line; expected the columns "
                        f"{', '.join(columns)}. {expected}".rstrip())
    wanted = [*columns, *(name for name in optional if name in header)]
    if twice := [name for name in wanted if header.count(name) > 1]:
        raise DataError(f"{path}: {header.count(twice[0])} columns are called {twice[0]}; expected one. "
                        "Merge or rename them.")
    places = {name: header.index(name) for name in wanted}
    table = []
    for number, cells in rows:
        while len(cells) > len(header) and not cells[-1]:
            cells.pop()
        if len(cells) != len(header):
            raise DataError(f"{path}, line {number}: {len(cells)} cells under {len(header)} columns "
                            f"({','.join(cells)[:80]}); {HOW_TO_WRITE}.")
        table.append((number, {name: cells[place] for name, place in places.items()}))
    if not table:
        raise DataError(f"{path}: no line under its header; expected at least one.")
    return table
