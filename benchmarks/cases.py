"""Read `benchmarks/cases.toml`: the cases in the results tables, and the results that README quotes."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import product
from pathlib import Path
from typing import Any

from satexport.bundle.contract import GraphOptions
from satexport.facts import check_fields

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib  # type: ignore[import-not-found]

FILE = Path(__file__).with_name("cases.toml")


@dataclass(frozen=True, kw_only=True)
class CaseRow:
    """A [[table.case]]: a bundle for each model, delay and target."""

    models: tuple[str, ...]
    delays: tuple[int, ...] = (2,)          # s
    targets: tuple[str, ...] = ("onnx",)
    checkpoint: str = "random"              # or "demo", or a file, relative to this repository
    window: int = 0                         # s of audio that a step takes; 0: the delay
    calibration: str = "synthetic"          # of int8; the set of that name is also the gate's labelled set
    cache: str = "kv"
    input: str = "audio"
    cache_dtype: str = "fp32"
    streams: int = 1
    one_stream: str = ""                    # target of the bundle for one stream that several streams are
                                            # compared with; "": the same target


@dataclass(frozen=True, kw_only=True)
class Case:
    """A bundle to export, prove and measure."""

    model: str
    delay: int         # s
    target: str
    row: CaseRow

    @property
    def options(self) -> GraphOptions:
        return GraphOptions(cache=self.row.cache, input=self.row.input, cache_dtype=self.row.cache_dtype,
                            streams=self.row.streams)

    @property
    def name(self) -> str:
        """The name in the tables, "sat-b-2s-int8-x8"."""
        demo = "-demo" if self.row.checkpoint == "demo" else ""
        window = f"-window-{self.row.window}s" if self.row.window else ""
        target = "" if self.target == "onnx" else f"-{self.target.removeprefix('cpu-')}"
        real = "" if self.row.calibration == "synthetic" else f"-{self.row.calibration}"
        return f"{self.model}-{self.delay}s{window}{demo}{target}{self.options.suffix}{real}"


@dataclass(frozen=True, kw_only=True)
class QuotedTable:
    """A [[table.quoted]]: figures that others published, not measured by this benchmark."""

    title: str
    source: str
    head: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]


@dataclass(frozen=True, kw_only=True)
class CaseTable:
    """A [[table]] of results."""

    title: str
    cases: tuple[Case, ...]
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
    """The content of cases.toml."""

    headline: Headline
    tables: tuple[CaseTable, ...] = field(default_factory=tuple)

    def all(self) -> list[Case]:
        return [case for table in self.tables for case in table.cases]


def read_cases(path: Path = FILE) -> Cases:
    """Return the cases in a file. Raises `DataError` for an unknown key or a value of the wrong type."""
    content = tomllib.loads(path.read_text("utf-8"))
    headline = Headline(**check_fields(Headline, content["headline"], path))
    return Cases(headline=headline, tables=tuple(_read_table(table, path) for table in content["table"]))


def _read_table(table: dict[str, Any], path: Path) -> CaseTable:
    rows = [CaseRow(**check_fields(CaseRow, row, path)) for row in table.pop("case")]
    quoted = tuple(_read_quoted(part, path) for part in table.pop("quoted", []))
    facts = check_fields(CaseTable, table, path, tables=("cases", "quoted"))
    return CaseTable(**facts, cases=tuple(case for row in rows for case in _expand(row)), quoted=quoted)


def _read_quoted(part: dict[str, Any], path: Path) -> QuotedTable:
    rows = tuple(tuple(row) for row in part.pop("rows"))
    return QuotedTable(**check_fields(QuotedTable, part, path, tables=("rows",)), rows=rows)


def _expand(row: CaseRow) -> Iterator[Case]:
    for model, target, delay in product(row.models, row.targets, row.delays):
        yield Case(model=model, delay=delay, target=target, row=row)
