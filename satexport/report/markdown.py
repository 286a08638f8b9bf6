"""Reports as Markdown."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from satexport.report.table import Block, Table
from satexport.terminal import printable


def to_markdown(blocks: Iterable[Block]) -> str:
    """Return blocks as Markdown, a blank line between them."""
    return "\n\n".join(
        f"**{_escape(block.title)}**\n\n{markdown_rows(block)}" if isinstance(block, Table)
        else _escape(block) for block in blocks) + "\n"


def markdown_rows(table: Table) -> str:
    """Return a table in Markdown, without its title."""
    cells = [["<br>".join(map(_escape, (cell,) if isinstance(cell, str) else cell)) for cell in row]
             for row in (table.head, *table.rows)]
    return align_rows(cells, [number >= table.texts for number in range(len(table.head))])


def align_rows(cells: Sequence[Sequence[str]], is_number: Sequence[bool]) -> str:
    """Return rows of cells in Markdown, the first one as the head. The columns also line up in a text editor.

    Columns of numbers are aligned to the right. A last column of text is not padded: it may contain
    sentences.
    """
    widths = [max(3, *map(len, column)) for column in zip(*cells, strict=True)]
    if not is_number[-1]:
        widths[-1] = max(3, len(cells[0][-1]))
    rule = ["-" * (width - number) + ":" * number for width, number in zip(widths, is_number, strict=True)]
    return "\n".join(_line(row, widths, is_number) for row in (cells[0], rule, *cells[1:]))


def _line(row: Sequence[str], widths: Sequence[int], is_number: Sequence[bool]) -> str:
    padded = [cell.rjust(width) if number else cell.ljust(width)
              for cell, width, number in zip(row, widths, is_number, strict=True)]
    return f"| {' | '.join(padded).rstrip()} |"


def _escape(text: str) -> str:
    r"""Escape a text so that Markdown shows it unchanged: file names and labels may contain its markup."""
    return "".join(f"\\{c}" if c in "\\`*[]<>|#" else c for c in printable(text))
