"""What a page consists of: parts that the template knows how to write. Text is not escaped here: the template
does that. Only a `Picture` is markup."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

from satexport.report.table import Cell, Table


@dataclass(frozen=True)
class Picture:
    """SVG markup of our own, whose texts are escaped already."""

    markup: str

    def __html__(self) -> str:
        """The markup, as jinja2 asks for it."""
        return self.markup


@dataclass(frozen=True, kw_only=True)
class Mark:
    """The number and the shape by which a page names one of several bundles."""

    number: int
    shape: int      # number of a shape and of its colour

    def __str__(self) -> str:
        return str(self.number)


Entry = Cell | Picture | Mark   # of a table
MANY_COLUMNS, MANY_ROWS = 10, 8   # of a table; what A4 paper has room for


@dataclass(frozen=True, kw_only=True)
class Grid:
    """A table: `texts` columns of text, then numbers."""

    part: ClassVar = "grid"
    title: str
    label: str                  # for a screen reader: the title, and which bundle it is about
    head: Sequence[Cell]
    rows: Sequence[Sequence[Entry]]
    texts: int = 1
    is_sortable: bool = True    # whether each column holds values of one kind
    statuses: int | None = None  # the column that holds statuses, which get a shape
    note: str = ""

    @property
    def style(self) -> str:
        """"" for one that fits a sheet of paper. Otherwise "wide", and "turned" if its rows become columns on
        paper, or "dense" if it has too many rows for that."""
        if len(self.head) <= MANY_COLUMNS:
            return ""
        return "wide turned" if len(self.rows) <= MANY_ROWS else "wide dense"


@dataclass(frozen=True, kw_only=True)
class Chart:
    """A picture with a title, a key to its marks and a caption."""

    part: ClassVar = "chart"
    title: str
    picture: Picture
    caption: str = ""
    key: Sequence[tuple[str, str]] = ()  # class of a mark, what it stands for


@dataclass(frozen=True, kw_only=True)
class Facts:
    """Names and what they are."""

    part: ClassVar = "facts"
    title: str
    rows: Sequence[tuple[str, str]]
    codes: frozenset[str] = frozenset()  # names of rows whose value is a hash


@dataclass(frozen=True, kw_only=True)
class Text:
    """A paragraph; `kind` is "plain", or "warning" for what must not be missed."""

    part: ClassVar = "text"
    text: str
    kind: str = "plain"


@dataclass(frozen=True, kw_only=True)
class Fold:
    """Parts that are shown when the reader asks for them, and on paper."""

    part: ClassVar = "fold"
    title: str
    parts: Sequence[Part]


@dataclass(frozen=True, kw_only=True)
class Pair:
    """Two groups of parts, side by side if there is room."""

    part: ClassVar = "pair"
    left: Sequence[Part]
    right: Sequence[Part]


@dataclass(frozen=True, kw_only=True)
class Flow:
    """Parts one after the other, as many in a row as have room."""

    part: ClassVar = "flow"
    parts: Sequence[Part]


Part = Grid | Chart | Facts | Text | Fold | Pair | Flow


def set_title(name: str) -> str:
    """Return the name of a labelled set for a title: of one that was given as a path, the last part."""
    return name.replace("\\", "/").rstrip("/").rpartition("/")[2] or name


def grid_of(table: Table, about: str) -> Grid:
    """Return a table of a report, about a bundle of this name. One whose rows are figures, each with a unit
    of its own, cannot be sorted by a column."""
    return Grid(title=table.title, label=f"{table.title}, {about}", head=table.head, rows=table.rows,
                texts=table.texts, is_sortable=table.head[0] != "")
