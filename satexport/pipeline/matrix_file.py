"""Read a matrix: a TOML file whose rows say which bundles to make, prove and measure."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, fields, replace
from itertools import product
from math import prod
from pathlib import Path
from typing import Any, TypeVar

from satexport import facts
from satexport.bundle.contract import ANY, CACHE_DTYPES, INPUTS
from satexport.bundle.target import MAX_THREADS
from satexport.errors import DataError
from satexport.hub import is_hub_name
from satexport.measure.schedule import STEPS
from satexport.models.checkpoint import WORDS, is_published
from satexport.quantize import calibration_set
from satexport.terminal import shown

EXPECTED = "a matrix: a TOML file with rows [[case]], such as examples/ci/matrix.toml"
MAX_CASES = 1000
SETS = ("synthetic", "scenes")  # labelled sets that are no files
DYNAMIC = "dynamic"            # number of streams: the caller chooses it
MINUTES, LIMITS_OF_STEPS = (0.1, 240.0), (2, 10_000)
Words = str | tuple[str, ...]  # a value, or a list of values
Numbers = int | tuple[int, ...]


@dataclass(frozen=True, kw_only=True)
class Settings:
    """The table [settings]: how each bundle is proven and measured."""

    minutes: float = 10.0        # of audio over which scores are compared with PyTorch's
    threads: int = 0             # of the runtime; 0: the target's, or as few as live streams need
    spinning: bool = False       # whether threads use their cores while they wait, as `--spinning`
    steps: int = STEPS           # of each burst, at most
    live: bool = False           # whether the CPU time of a chunk is measured in a run of its own, with the
                                 # default of threads and no spinning


@dataclass(frozen=True, kw_only=True)
class CaseRow:
    """A [[case]]: a bundle for each combination of the values in its lists."""

    model: Words                   # or a list; `satexport models` lists them
    target: Words = "onnx"         # or a list; names or files, "onnx" is the fp32 export
    delay: Numbers = 0             # s, or a list; 0: 2 s if the model has it
    window: Numbers = 0            # s of audio that a step takes, or a list; 0: as long as the delay
    checkpoint: Words = "published"  # or a list; as `--checkpoint` of `satexport onnx`
    calibration: Words = ""        # of int8, or a list; without it the target's own set
    cache: Words = "kv"            # or "hidden", or a list
    input: Words = "audio"         # or "mel", or a list
    cache_dtype: Words = "fp32"    # or "fp16", "int8", or a list
    streams: int | str | tuple[int, ...] = 1  # that one step serves, or "dynamic", or a list of numbers
    embedding: Words = ""          # kind of the embedding, or a list; without it none
    label: str = ""                # a word in the names of the row's cases and of their folder
    labels: str = ""               # file with the names of the classes; without it AudioSet's
    data: str = "synthetic"        # labelled set that gates, as `--data` of `satexport parity`
    folds: tuple[int, ...] = ()    # to gate on, of a set in ESC-50 layout; without it the calibration set's
    map: str = ""                  # CSV with the label of each category of the labelled set
    one_stream: str = ""           # target of the bundle for one stream that several streams are compared
                                   # with; without it the same target
    minutes: float = 0.0           # 0: that of [settings]
    threads: int = 0               # 0: that of [settings]


AXES = ("model", "target", "delay", "window", "checkpoint", "calibration", "cache", "input", "cache_dtype",
        "streams", "embedding")  # of a row, in the order in which its cases follow each other; the last
                                 # delay comes before the next target


@dataclass(frozen=True, kw_only=True)
class Case:
    """One combination: the keys of its row with one value each. Paths are as the file has them."""

    where: Path         # the matrix
    table: str          # title of its table
    model: str
    target: str
    delay: int
    window: int
    checkpoint: str
    calibration: str
    cache: str
    input: str
    cache_dtype: str
    streams: int        # ANY: dynamic
    embedding: str
    label: str
    labels: str
    data: str
    folds: tuple[int, ...]
    map: str
    one_stream: str
    minutes: float
    threads: int        # 0: the target's

    def path(self, text: str) -> Path:
        """A path in the matrix, which is relative to its folder."""
        return self.where.parent / text

    @property
    def weights(self) -> str:
        """The checkpoint, as `load_checkpoint` takes it."""
        return self.weights_file or self.checkpoint

    @property
    def weights_file(self) -> str:
        """The file of the checkpoint; "": it is not a file of this machine."""
        what = self.checkpoint
        is_word = what in WORDS or is_published(what) or is_hub_name(what)
        return "" if is_word else str(self.path(what))

    @property
    def labelled_set(self) -> str:
        """The labelled set, as `find_gate_set` takes it."""
        return self.data if self.data in SETS else str(self.path(self.data))

    @property
    def calibration_set(self) -> str | None:
        """The calibration set, as `find_calibration` takes it; None: the target's."""
        if not self.calibration or self.calibration in facts.names(calibration_set.FOLDER):
            return self.calibration or None
        return str(self.path(self.calibration))

    def target_named(self, name: str) -> str:
        """A target, as `find_target` takes it."""
        return str(self.path(name)) if name.endswith(".toml") else name


Found = TypeVar("Found", Settings, Case)


@dataclass(frozen=True, kw_only=True)
class CaseTable:
    """Cases that one table of the report shows: a [[table]], or all rows [[case]] of the file."""

    title: str
    cases: tuple[Case, ...]
    note: str = ""


@dataclass(frozen=True, kw_only=True)
class Matrix:
    """The content of a matrix."""

    path: Path
    settings: Settings
    tables: tuple[CaseTable, ...]

    @property
    def cases(self) -> list[Case]:
        return [case for table in self.tables for case in table.cases]


def read_matrix(path: Path) -> Matrix:
    """Return the matrix in a file. Raises `UsageError` if there is no file, `DataError` for a file that is
    not valid TOML, an unknown key or an invalid value."""
    content = facts.read_toml(path, EXPECTED)
    known = ("settings", "case", "table")
    if unknown := sorted(set(content) - set(known)):
        raise DataError(f"{path}: unknown key {shown(unknown[0])}; expected a table [settings], and rows "
                        "[[case]] or tables [[table]] with rows [[table.case]].")
    settings = _read_settings(content.get("settings", {}), path)
    tables = []
    if rows := _tables_at(content, "case", path):
        tables.append(CaseTable(title="", cases=tuple(_read_rows(rows, "", settings, path))))
    for entry in _tables_at(content, "table", path):
        head = facts.check_fields(CaseTable, {key: entry[key] for key in entry if key != "case"}, path,
                                  ("cases",), "table")
        rows = _tables_at(entry, "case", path)
        tables.append(CaseTable(**head, cases=tuple(_read_rows(rows, head["title"], settings, path))))
    matrix = Matrix(path=path, settings=settings, tables=tuple(tables))
    _check_count(len(matrix.cases), path)
    return matrix


def override(matrix: Matrix, minutes: float | None, threads: int | None) -> Matrix:
    """Return the matrix with other minutes or threads for all cases; None: those that it has."""
    def changed(found: Found) -> Found:
        return replace(found, minutes=found.minutes if minutes is None else minutes,
                       threads=found.threads if threads is None else threads)

    tables = (replace(table, cases=tuple(map(changed, table.cases))) for table in matrix.tables)
    return replace(matrix, tables=tuple(tables), settings=changed(matrix.settings))


def _check_count(cases: int, where: Path) -> None:
    if not 1 <= cases <= MAX_CASES:
        raise DataError(f"{where}: has {cases} cases, expected 1 to {MAX_CASES}. A row [[case]] with a "
                        "`model` is a case; the lists in it multiply.")


def _tables_at(content: Mapping[str, Any], key: str, where: Path) -> list[dict[str, Any]]:
    """The tables [[key]]; [] if there is none."""
    found = content.get(key, [])
    if not isinstance(found, list) or not all(isinstance(entry, dict) for entry in found):
        raise DataError(f"{where}: {key} is {shown(found)}, expected tables [[{key}]].")
    return found


def _read_settings(table: Any, where: Path) -> Settings:
    if not isinstance(table, dict):
        raise DataError(f"{where}: settings is {shown(table)}, expected a table [settings].")
    settings = Settings(**facts.check_fields(Settings, table, where, table="settings"))
    least, most = LIMITS_OF_STEPS
    is_valid = least <= settings.steps <= most
    facts.check_values([("minutes", settings.minutes, settings.minutes != 0, "not 0"), *_limits(settings),
                        ("steps", settings.steps, is_valid, f"{least} to {most}")], where)
    return settings


def _limits(found: Settings | CaseRow) -> Iterator[facts.Condition]:
    least, most = MINUTES
    minutes, threads = found.minutes, found.threads
    yield "minutes", minutes, not minutes or least <= minutes <= most, f"{least:g} to {most:g}"
    yield "threads", threads, 0 <= threads <= MAX_THREADS, f"1 to {MAX_THREADS}, or 0 for the default"


def _read_rows(rows: Sequence[dict[str, Any]], table: str, settings: Settings, where: Path) -> Iterator[Case]:
    """Yield the cases of all rows, in the order of the file."""
    for entry in rows:
        row = CaseRow(**facts.check_fields(CaseRow, entry, where, table="case"))
        facts.check_values((*_conditions(row), *_limits(row)), where)
        _check_count(prod(len(_values(row, name)) for name in AXES), where)
        shared = {field.name: getattr(row, field.name) for field in fields(row) if field.name not in AXES}
        shared |= {"minutes": row.minutes or settings.minutes, "threads": row.threads or settings.threads}
        for values in product(*(_values(row, name) for name in AXES)):
            chosen = dict(zip(AXES, values, strict=True))
            chosen["streams"] = ANY if chosen["streams"] == DYNAMIC else chosen["streams"]
            yield Case(where=where, table=table, **shared, **chosen)


def _values(row: CaseRow, name: str) -> tuple[Any, ...]:
    """The values of a key that is a value or a list of values."""
    value = getattr(row, name)
    return value if isinstance(value, tuple) else (value,)


def _conditions(row: CaseRow) -> Iterator[facts.Condition]:
    for name in AXES:
        values = _values(row, name)
        yield name, list(values), bool(values), "at least one value"
        yield name, list(values), len(set(values)) == len(values), "each value once"
    choices = {"cache": ("kv", "hidden"), "input": INPUTS, "cache_dtype": tuple(CACHE_DTYPES)}
    for name, allowed in choices.items():
        for value in _values(row, name):
            yield name, value, value in allowed, " or ".join(allowed)
    for name in ("delay", "window"):
        for value in _values(row, name):
            yield name, value, value >= 0, "whole seconds, or 0 for the default"
    for value in _values(row, "streams"):
        yield ("streams", value, value == DYNAMIC or (isinstance(value, int) and value >= 1),
               f"a number from 1, or \"{DYNAMIC}\"")
    for name in ("model", "target", "checkpoint"):
        for value in _values(row, name):
            yield name, value, bool(value), "a name"
    yield "data", row.data, bool(row.data), 'a labelled set, such as "synthetic"'
    yield ("label", row.label, re.fullmatch(r"(\w[\w.+-]*)?", row.label) is not None,
           "letters, digits and . + - _")
