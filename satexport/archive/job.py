"""What a run does, what a task is and what it returns: all that goes to workers and comes back, pickled."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from numpy.typing import NDArray

from satexport.archive.plan import Part, Piece
from satexport.tagging.events import EventOptions

Columns = Mapping[str, NDArray[Any]]  # of a table, equally long


@dataclass(frozen=True, kw_only=True)
class Job:
    """What is found in each recording, and how."""

    bundle: str                # absolute path, the same for every worker
    bundle_sha256: str
    batch: int                 # streams in one step
    content: str               # a key of `satexport.archive.contents.CONTENTS`
    events: EventOptions       # also the thresholds of tags
    sample: str = ""           # path of a recording that each worker must see
    worker_sha256: str = ""    # what `check_worker` must return on each worker; "": not compared


@dataclass(frozen=True, kw_only=True)
class Task:
    """One part of a run."""

    job: Job
    part: Part


@dataclass(frozen=True, kw_only=True)
class PieceResult:
    """What was found in a piece."""

    piece: Piece
    columns: tuple[Columns, ...]        # tables to put one after the other: rows of the content or, of a part
                                        # of a recording if the content needs the whole, its chunks
    end: float                          # of its last chunk, s of the recording
    seconds: float                      # that were scored, without what a model has to hear before
    problem: str = ""                   # why it could not be read, or not to its end
    is_missing: bool = False            # the worker does not see the file
    warnings: tuple[str, ...] = ()      # what is strange about the recording
