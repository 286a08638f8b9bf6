"""What a run writes of each recording: tags over a threshold, all scores, events or embeddings.

A content is a row of `CONTENTS`: the collector that a worker feeds with the chunks of a piece, and the types
of its columns. Imports only numpy; types are written as pyarrow names them.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

from satexport.archive.job import Columns, Job
from satexport.bundle.contract import Contract
from satexport.bundle.thresholds import OperatingPoint, threshold_arrays
from satexport.errors import UsageError
from satexport.step import FloatArray
from satexport.tagging.events import Event, EventFinder, ended

LABEL = "label"   # a type: the number of a label, written as its name and its MID
LIST = "[]"       # ends the type of a column with the same count of numbers in each row


class Chunks(NamedTuple):
    """Consecutive chunks of a recording."""

    starts: NDArray[np.float64]      # [n] s
    ends: NDArray[np.float64]        # [n] s; the recording may end within the last one
    powers: NDArray[np.float64]      # [n] mean square
    scores: FloatArray               # [n, classes]
    embeddings: FloatArray | None = None  # [n, size]


class Collector(Protocol):
    """Collects the rows of one piece, in the order of time."""

    def add(self, chunks: Chunks) -> Columns | None:
        """Add chunks. Returns the rows that they complete; None: none."""

    def finish(self, end: float) -> Columns | None:
        """The rows that are left at the end of the piece, `end` s after the beginning of the recording."""


class Tags:
    """The labels whose score reaches their threshold, of each chunk the highest first."""

    def __init__(self, job: Job, contract: Contract, labels: Sequence[str]) -> None:
        usual = OperatingPoint(on=job.events.on)
        self._on, _ = threshold_arrays([job.events.thresholds.get(label, usual) for label in labels])

    def add(self, chunks: Chunks) -> Columns:
        rows, classes = np.nonzero(chunks.scores >= self._on)
        scores = chunks.scores[rows, classes]
        order = np.lexsort((-scores, rows))
        rows = rows[order]
        return {"start_time": chunks.starts[rows], "end_time": chunks.ends[rows],
                "label": classes[order].astype(np.int32), "score": scores[order]}

    def finish(self, end: float) -> None:
        pass


class Scores:
    """All scores of each chunk."""

    def __init__(self, job: Job, contract: Contract, labels: Sequence[str]) -> None:
        pass

    def add(self, chunks: Chunks) -> Columns:
        return {"start_time": chunks.starts, "end_time": chunks.ends,
                "scores": chunks.scores.astype(np.float16)}

    def finish(self, end: float) -> None:
        pass


class Embeddings:
    """The embedding of each chunk. Raises `UsageError` if the bundle has none."""

    def __init__(self, job: Job, contract: Contract, labels: Sequence[str]) -> None:
        if not contract.embedding:
            raise UsageError(f"{job.bundle} has no embedding. Export it with --embedding, or choose another "
                             "--content.")

    def add(self, chunks: Chunks) -> Columns:
        assert chunks.embeddings is not None
        return {"start_time": chunks.starts, "end_time": chunks.ends, "embedding": chunks.embeddings}

    def finish(self, end: float) -> None:
        pass


class Events:
    """The events of a whole recording, by their beginnings."""

    def __init__(self, job: Job, contract: Contract, labels: Sequence[str]) -> None:
        self._finder = EventFinder(labels, contract.hop_seconds, job.events)
        self._numbers = {name: number for number, name in enumerate(label_names(job, labels))}
        self._reports: list[Event] = []

    def add(self, chunks: Chunks) -> None:
        self._keep(self._finder.add(chunks.scores, chunks.powers.tolist()))

    def finish(self, end: float) -> Columns:
        self._keep(self._finder.finish(end))
        events = ended(self._reports)
        return {"start_time": np.array([event.begin for event in events], np.float64),
                "end_time": np.array([event.end for event in events], np.float64),
                "label": np.array([self._numbers[event.label] for event in events], np.int32),
                "score": np.array([event.score for event in events], np.float32),
                "mean_score": np.array([event.mean_score for event in events], np.float32),
                "level_dbfs": np.array([np.nan if event.level_dbfs is None else event.level_dbfs
                                        for event in events], np.float32)}

    def _keep(self, events: Sequence[Event]) -> None:
        self._reports += [event for event in events if event.end is not None]


class ChunkRows:
    """The chunks of a piece as rows, for a collector that needs the whole recording."""

    def add(self, chunks: Chunks) -> Columns:
        return {name: array for name, array in chunks._asdict().items() if array is not None}

    def finish(self, end: float) -> None:
        pass


@dataclass(frozen=True, kw_only=True)
class Content:
    """A kind of rows."""

    title: str                            # for people: what a row is
    collector: Callable[[Job, Contract, Sequence[str]], Collector]
    types: dict[str, str]                 # of the columns after "input", in this order
    needs_whole: bool = False             # its rows depend on the whole recording


TIMES = {"start_time": "float32", "end_time": "float32"}
CONTENTS = {
    "tags": Content(title="tag", collector=Tags, types={**TIMES, "label": LABEL, "score": "float32"}),
    "scores": Content(title="chunk", collector=Scores, types={**TIMES, "scores": "float16[]"}),
    "events": Content(title="event", collector=Events, needs_whole=True, types={
        **TIMES, "label": LABEL, "score": "float32", "mean_score": "float32", "level_dbfs": "float32"}),
    "embeddings": Content(title="chunk", collector=Embeddings, types={**TIMES, "embedding": "float32[]"}),
}


def label_names(job: Job, labels: Sequence[str]) -> list[str]:
    """The names that the column "label" has: those of groups, if there are any, or the labels."""
    return list(job.events.groups or labels)
