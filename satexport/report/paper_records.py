"""Records of the papers' tables and of scores over a recording. Imports only numpy."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from satexport.bundle.contract import RANDOM_WEIGHTS, CheckpointOrigin
from satexport.models.claims import PaperFigures
from satexport.origin import origin
from satexport.parity.records import SetParity

WITHIN = 0.02   # of a paper's GFLOPs: the largest difference at which a count agrees with them


@dataclass(frozen=True, kw_only=True)
class StepBytes:
    """Memory of one step of one stream, in bytes; None: not measured."""

    weights: int
    state: int
    transient: int | None
    autograd: int | None      # kept by PyTorch for a backward pass


@dataclass(frozen=True, kw_only=True)
class PaperRow:
    """A row of a paper's table. What is None was not asked for, or `why_not` says why it is not there."""

    name: str                  # of the variant, "sat-t-2s"; of a model that is not in satexport, the paper's
    title: str                 # as the paper calls it, "SAT-T"
    seconds: int               # of new audio in a step
    published: PaperFigures
    kind: str = ""             # of the embedding that the row is about; "": of the scores
    parameters: int | None = None              # trained weights
    tokens: Mapping[str, int] | None = None    # of one step: "new" and "cached"
    embedding_size: int | None = None          # numbers in an embedding of this kind
    operations: Mapping[str, int] | None = None  # of one step: "model" and "front_end" as in all reports
    as_paper: float | None = None              # operations of the model, counted as the paper counts
    memory_bytes: StepBytes | None = None
    checkpoint: CheckpointOrigin | None = None  # the weights that were measured
    labelled_set: SetParity | None = None
    why_not: str = ""          # why there are no figures of a labelled set, a phrase

    @property
    def difference_from_paper(self) -> float | None:
        """The operations counted as the paper counts / the paper's, minus 1."""
        printed = self.published.gflops
        return None if self.as_paper is None or not printed else self.as_paper / 1e9 / printed - 1

    @property
    def agrees(self) -> bool | None:
        """Whether that count is the paper's figure: within 2 %, or after rounding to the digits that it has;
        None if either is missing."""
        if self.difference_from_paper is None or self.as_paper is None or self.published.gflops is None:
            return None
        printed = f"{self.published.gflops:g}"
        digits = len(printed.partition(".")[2])
        return abs(self.difference_from_paper) <= WITHIN or f"{self.as_paper / 1e9:.{digits}f}" == printed


@dataclass(frozen=True, kw_only=True)
class PaperReport:
    """A table of a paper with the figures that were measured here: `satexport paper`."""

    table: str                  # "table1"
    title: str
    sections: tuple[str, ...]   # groups of figures, keys of SECTIONS in satexport.report.paper_figures
    rows: tuple[PaperRow, ...]
    notes: tuple[str, ...]      # what the paper leaves open, and what was not measured
    origin: Mapping[str, Any] = field(default_factory=origin)


@dataclass(frozen=True, kw_only=True)
class ScoreCurve:
    """The scores of a bundle over a recording."""

    name: str                   # of the bundle, and whether it was reset
    variant: str
    hop_seconds: float          # of new audio in each chunk; the score of a chunk is for its end
    is_reset: bool              # the stream began anew at each chunk
    bundle_sha256: str
    checkpoint: CheckpointOrigin
    scores: Mapping[str, tuple[float, ...]]   # by label, of each chunk


@dataclass(frozen=True, kw_only=True)
class ScoresReport:
    """Scores of chosen labels over a recording by several bundles: Figure 2 of the SAT paper."""

    recording: str
    seconds: float
    labels: tuple[str, ...]
    curves: tuple[ScoreCurve, ...]
    events: Mapping[str, tuple[tuple[float, float], ...]] | None = None  # by label, begin and end of the true
                                                                         # ones, s; None: not known
    origin: Mapping[str, Any] = field(default_factory=origin)

    @property
    def title(self) -> str:
        return f"Scores over {self.recording}"

    @property
    def warning(self) -> str | None:
        """A sentence for the user if the weights of a bundle are random; None otherwise."""
        sources = {curve.checkpoint.source for curve in self.curves}
        return RANDOM_WEIGHTS if "random" in sources else None
