"""Reports as Markdown."""

from __future__ import annotations

from collections.abc import Iterable

from satexport.report.blocks import Block, Cell, Table
from satexport.terminal import printable


def to_markdown(blocks: Iterable[Block]) -> str:
    """Return blocks as Markdown, a blank line between them."""
    return "\n\n".join(_table(block) if isinstance(block, Table) else _text(block) for block in blocks) + "\n"


def markdown_rows(table: Table) -> str:
    """Return a table in Markdown, without its title."""
    columns = len(table.head)
    rule = ["---"] * min(table.texts, columns) + ["---:"] * (columns - table.texts)
    return "\n".join(f"| {' | '.join(map(_cell, row))} |" for row in (table.head, rule, *table.rows))


def _table(table: Table) -> str:
    return f"**{_text(table.title)}**\n\n{markdown_rows(table)}"


def _cell(cell: Cell) -> str:
    return "<br>".join(_text(line) for line in ((cell,) if isinstance(cell, str) else cell))


def _text(text: str) -> str:
    r"""A text as Markdown shows it as it is: names of files and labels may hold what Markdown obeys."""
    return "".join(f"\\{c}" if c in "\\`*_[]<>|#" else c for c in printable(text))
