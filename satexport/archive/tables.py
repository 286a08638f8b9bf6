"""The Parquet files of a run: their columns, and what their metadata says about their origin."""

from __future__ import annotations

import io
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from satexport.archive.contents import CONTENTS, LABEL, LIST, label_names
from satexport.archive.job import Columns, Job, PieceResult
from satexport.audio.labels import audioset_mids
from satexport.bundle.contract import Contract
from satexport.errors import requires_extra

PREFIX = "satexport."   # of keys in the metadata


@dataclass(frozen=True, kw_only=True, order=True)
class Problem:
    """What was wrong with a recording."""

    name: str
    reason: str
    is_lost: bool     # some or all of it was not scored; False: a warning


@dataclass(frozen=True, kw_only=True)
class PartFacts:
    """What the metadata of a file says about its part."""

    rows: int
    seconds: float                   # of audio that was scored
    problems: tuple[Problem, ...]

    @property
    def has_failed(self) -> bool:
        return any(problem.is_lost for problem in self.problems)


def import_pyarrow() -> Any:
    """Raises `MissingError` if it is not installed."""
    with requires_extra("batch"):
        import pyarrow
        import pyarrow.parquet
    return pyarrow


def render(job: Job, contract: Contract, labels: Sequence[str], results: Sequence[PieceResult],
           origin: Mapping[str, str]) -> bytes:
    """The file of a part, as Parquet with zstd: columns as BirdNET's tables have them, and the origin in the
    metadata of the schema."""
    arrow = import_pyarrow()
    words = arrow.dictionary(arrow.int32(), arrow.string())
    rows = [(result.piece.recording.name, columns) for result in results for columns in result.columns]
    widths = {spec.name: spec.shape[1] for spec in contract.outputs}
    fields: dict[str, Any] = {"input": arrow.array(
        [name for name, columns in rows for _ in range(_length(columns))], arrow.string()).cast(words)}
    for name, kind in CONTENTS[job.content].types.items():
        values = [columns[name] for _, columns in rows]
        if kind == LABEL:
            fields |= _label_columns(arrow, label_names(job, labels), values)
        else:
            fields[name] = _array(arrow, values, kind, widths.get(name, 1))
    facts = {"rows": str(sum(_length(columns) for _, columns in rows)),
             "seconds": repr(sum(result.seconds for result in results)),
             "problems": json.dumps([[p.name, p.reason, p.is_lost] for p in find_problems(results)])}
    table = arrow.table(fields).replace_schema_metadata(
        {PREFIX + key: value for key, value in {**origin, **facts}.items()})
    file = io.BytesIO()
    arrow.parquet.write_table(table, file, compression="zstd")
    return file.getvalue()


def _length(columns: Columns) -> int:
    return len(columns["start_time"])


def _label_columns(arrow: Any, names: Sequence[str], values: Sequence[Any]) -> dict[str, Any]:
    """The names and the MIDs of labels, given by their numbers."""
    mid_of = {label: mid for mid, label in audioset_mids().items()}
    numbers = arrow.array(np.concatenate([np.empty(0, np.int32), *values]), arrow.int32())
    words = arrow.dictionary(arrow.int32(), arrow.string())
    return {name: numbers_to_words.cast(words) for name, numbers_to_words in (
        ("label", arrow.array(list(names), arrow.string()).take(numbers)),
        ("mid", arrow.array([mid_of.get(name) for name in names], arrow.string()).take(numbers)))}


def _array(arrow: Any, values: Sequence[Any], kind: str, width: int) -> Any:
    """A column of numbers, or of lists of `width` numbers. NaN becomes null."""
    dtype = kind.removesuffix(LIST)
    numbers = np.concatenate([np.empty(0, dtype), *(value.reshape(-1) for value in values)]).astype(dtype)
    if kind == dtype:
        return arrow.array(numbers, from_pandas=True)
    return arrow.FixedSizeListArray.from_arrays(arrow.array(numbers), width)


def find_problems(results: Sequence[PieceResult]) -> list[Problem]:
    """What was wrong with the recordings of pieces, each sentence once."""
    found = [Problem(name=result.piece.recording.name, reason=reason, is_lost=is_lost)
             for result in results
             for reason, is_lost in [*((text, False) for text in result.warnings), (result.problem, True)]
             if reason]
    return list(dict.fromkeys(found))


def read_facts(file: Path) -> PartFacts | None:
    """What a file says about its part; None if it is not there, or damaged."""
    arrow = import_pyarrow()
    try:
        metadata = arrow.parquet.read_schema(file).metadata or {}
        facts = {key: metadata[f"{PREFIX}{key}".encode()].decode() for key in ("rows", "seconds", "problems")}
        problems = tuple(Problem(name=name, reason=reason, is_lost=is_lost)
                         for name, reason, is_lost in json.loads(facts["problems"]))
        return PartFacts(rows=int(facts["rows"]), seconds=float(facts["seconds"]), problems=problems)
    except (OSError, KeyError, ValueError, arrow.ArrowInvalid):
        return None
