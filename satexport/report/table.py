"""A table of a report, independent of the output format. Imports only numpy."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TypeVar

from satexport.bundle.gates import Gate
from satexport.report.figure import Figure, R
from satexport.report.figures import present

Cell = str | tuple[str, ...]   # a cell of a table: one line or several
C = TypeVar("C", bound=Cell)


@dataclass(frozen=True, kw_only=True)
class Table:
    """A table: a head, and rows with the same number of cells."""

    title: str
    head: Sequence[Cell]
    rows: Sequence[Sequence[Cell]]
    texts: int = 1             # number of text columns at the left; the others are numbers


Block = Table | str            # a table or a sentence


def rows_table(title: str, first: str, figures: Sequence[Figure[R]], records: Mapping[str, R]) -> Table:
    """Return a table with a row for each record and a column for each figure that any record has."""
    shown = present(figures, records.values())
    return Table(
        title=title, head=[first, *(figure.head for figure in shown)],
        rows=[[name, *(figure.text(record) for figure in shown)] for name, record in records.items()])


def columns_table(title: str, figures: Sequence[Figure[R]], records: Mapping[C, R]) -> Table:
    """Return a table with a row for each figure that any record has and a column for each record."""
    return Table(title=title, head=["", *records],
                 rows=[[figure.head, *map(figure.text, records.values())]
                       for figure in present(figures, records.values())])


def gates_table(title: str, gates: Sequence[Gate]) -> Table:
    return Table(title=title, head=["gate", "", "condition"], texts=3,
                 rows=[[gate.name, gate.status, gate.note] for gate in gates])
