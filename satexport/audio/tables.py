"""Hand-written tables and lists: UTF-8 text, one entry per line; csv files are parsed strictly.

A row that does not fit the header is an error that names its line: a cell that is silently ignored would be a
missing label. Standard library only, because devices read labels too.
"""

from __future__ import annotations

import csv
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

from satexport.errors import DataError
from satexport.files import read_at_most

MAX_BYTES = 32_000_000  # of a table; AudioSet's list of balanced clips has 1.3 MB, VGGSound's list 8 MB
MAX_LINES = 250_000
HOW_TO_WRITE = "put a cell that contains a comma in quotes, and separate labels in one cell by semicolons"
Row = tuple[int, list[str]]  # line number, from 1, and cells


def read_lines(path: Path, expected: str, max_bytes: int = MAX_BYTES) -> list[str]:
    r"""The lines of a text file of at most `max_bytes`; only \n, \r\n and \r end a line.

    Raises `DataError`, with `expected` in its message, if the file is missing, too long or not UTF-8.
    """
    try:
        text = read_at_most(path, max_bytes).decode("utf-8-sig")
    except FileNotFoundError:
        raise DataError(f"{path}: no such file; {expected}") from None
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"{path}: cannot be read as UTF-8 text ({error}); {expected}") from None
    if "\0" in text:
        raise DataError(f"{path}: contains zero bytes, like UTF-16 text or a binary file; {expected}")
    text = text.replace("\r\n", "\n").replace("\r", "\n")
    if text.count("\n") > MAX_LINES:
        raise DataError(f"{path}: has more than {MAX_LINES} lines, the limit for a list; {expected}")
    return text.split("\n")


def read_cells(path: Path, lines: Iterable[str]) -> Iterator[Row]:
    """The rows of a csv, with the spaces around each cell removed; empty rows are skipped. A quoted cell must
    end on its line, because an unclosed quote would swallow the lines up to the next quote. Raises
    `DataError`."""
    for number, line in enumerate(lines, start=1):
        try:
            cells = next(csv.reader([line.rstrip()], skipinitialspace=True, strict=True), [])
        except csv.Error as error:
            problem = "a quote is not closed" if "end of data" in str(error) else str(error)
            raise DataError(f"{path}, line {number}: is not valid csv ({problem}); {HOW_TO_WRITE}.") from None
        if any(cell.strip() for cell in cells):
            yield number, [cell.strip() for cell in cells]


def read_rows(path: Path, lines: Sequence[str], columns: Sequence[str], optional: Sequence[str] = (),
              expected: str = "") -> list[tuple[int, dict[str, str]]]:
    """For each row of a csv with a header: its line number, and its cells in `columns` and in those of
    `optional` that the csv has. Raises `DataError` if a column is missing (with `expected` in its message) or
    duplicated, if there are no rows, or if a row has more or fewer cells than the header; extra empty cells
    at its end are ignored."""
    rows = read_cells(path, lines)
    _, header = next(rows, (1, []))
    if absent := [name for name in columns if name not in header]:
        raise DataError(f"{path}: its first line has no column {', '.join(absent)}; expected the columns "
                        f"{', '.join(columns)}. {expected}".rstrip())
    selected = [*columns, *(name for name in optional if name in header)]
    if duplicated := [name for name in selected if header.count(name) > 1]:
        raise DataError(f"{path}: {header.count(duplicated[0])} columns are named {duplicated[0]}; expected "
                        "one. Merge or rename them.")
    positions = {name: header.index(name) for name in selected}
    table = []
    for number, cells in rows:
        while len(cells) > len(header) and not cells[-1]:
            cells.pop()
        if len(cells) != len(header):
            raise DataError(f"{path}, line {number}: has {len(cells)} cells for {len(header)} columns "
                            f"({','.join(cells)[:80]}); {HOW_TO_WRITE}.")
        table.append((number, {name: cells[position] for name, position in positions.items()}))
    if not table:
        raise DataError(f"{path}: has no rows below its header; expected at least one.")
    return table
