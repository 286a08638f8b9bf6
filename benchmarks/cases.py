"""What the results pages show: the cases of benchmarks/cases.toml, and what benchmarks/pages.toml quotes."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from satexport.facts import check_fields, read_toml
from satexport.pipeline.matrix import plan_cases
from satexport.pipeline.matrix_file import read_matrix

MATRIX = Path(__file__).with_name("cases.toml")
PAGES = Path(__file__).with_name("pages.toml")


@dataclass(frozen=True, kw_only=True)
class QuotedTable:
    """A [[quoted]]: figures that others published, not measured by this benchmark."""

    table: str                         # title of the table of results that it follows
    title: str
    source: str
    head: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]


@dataclass(frozen=True, kw_only=True)
class CaseTable:
    """A table of results."""

    title: str
    cases: tuple[str, ...]   # names
    note: str = ""
    quoted: tuple[QuotedTable, ...] = ()


@dataclass(frozen=True, kw_only=True)
class Headline:
    """The results that README's table quotes."""

    cpu: str                   # name of a file in docs/results
    cases: tuple[str, ...]
    figures: tuple[str, ...]   # keys of figures


@dataclass(frozen=True, kw_only=True)
class Cases:
    """What the pages show."""

    headline: Headline
    tables: tuple[CaseTable, ...] = ()

    def all(self) -> list[str]:
        return [case for table in self.tables for case in table.cases]


@cache
def read_cases() -> Cases:
    """Return what the pages show. Raises `DataError` for an unknown key or a value of the wrong type."""
    content, matrix = read_toml(PAGES, "what the pages quote"), read_matrix(MATRIX)
    plans = plan_cases(matrix, Path("build")).items()
    quoted = [_read_quoted(part) for part in content["quoted"]]
    return Cases(headline=Headline(**check_fields(Headline, content["headline"], PAGES)), tables=tuple(
        CaseTable(title=table.title, note=table.note,
                  cases=tuple(name for name, plan in plans if plan.case.table == table.title),
                  quoted=tuple(part for part in quoted if part.table == table.title))
        for table in matrix.tables))


def _read_quoted(part: dict[str, Any]) -> QuotedTable:
    rows = tuple(tuple(row) for row in part.pop("rows"))
    return QuotedTable(**check_fields(QuotedTable, part, PAGES, tables=("rows",)), rows=rows)
