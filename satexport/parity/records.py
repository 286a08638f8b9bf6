"""The records of parity, over golden chunks, a long stream or a labelled set; the same on every device and
from every command. `satexport.report.figures` names and defines the figures. Imports only numpy.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from statistics import NormalDist
from typing import Any

from satexport.bundle.contract import RANDOM_WEIGHTS, CheckpointOrigin
from satexport.bundle.folder import Bundle
from satexport.bundle.gates import Gate, verdict
from satexport.origin import origin
from satexport.parity.differences import Differences, Drift, EmbeddingDifferences
from satexport.remote import RemoteStep
from satexport.tagging.tagger import Tagger

CONFIDENCE = 95       # %, of the intervals
RESAMPLES = 500       # of the clips, with replacement, that they come from
SEED = 0              # of the resamples


@dataclass(frozen=True, kw_only=True)
class ClassMetrics:
    """How well the scores of a class tell the clips that have it from the others; NaN: undefined."""

    average_precision: float
    auc: float       # area under the ROC curve; NaN: every clip has the class
    best_f1: float   # highest F1 of any threshold, which is chosen on these clips


@dataclass(frozen=True, kw_only=True)
class SetMetrics:
    """The same for all classes that a clip has (means over classes), and figures of all their scores."""

    map: float       # mean average precision
    auc: float       # NaN: every clip has every class
    best_f1: float
    top1: float
    ece: float       # expected calibration error
    classes: Mapping[str, ClassMetrics]

    @property
    def d_prime(self) -> float:
        """The distance between the means of two normal distributions of standard deviation 1 whose AUC is
        `auc`, as AudioSet's papers report it; infinite for an AUC of 1."""
        if math.isnan(self.auc):
            return math.nan
        return math.sqrt(2) * NormalDist().inv_cdf(self.auc) if 0 < self.auc < 1 else math.copysign(
            math.inf, self.auc - 0.5)


@dataclass(frozen=True, kw_only=True)
class Interval:
    """A confidence interval."""

    low: float
    high: float


@dataclass(frozen=True, kw_only=True)
class Intervals:
    """The confidence intervals of `SetMetrics`, by the name of the metric: over all classes, and of each."""

    all: Mapping[str, Interval]
    classes: Mapping[str, Mapping[str, Interval]]


@dataclass(frozen=True, kw_only=True)
class EventMetrics:
    """F1 of the events in the scores of chunks; NaN: the scores are not finite, or there is no true event."""

    segment_f1: float          # over all labels together (micro)
    segment_f1_macro: float    # mean over the labels that have an event
    onset_f1: float
    onset_f1_macro: float


@dataclass(frozen=True, kw_only=True)
class EventParity:
    """The comparison of both over strong labels."""

    events: int                # that are true
    segment_seconds: float
    collar_seconds: float      # of onsets
    thresholds: str            # from which score on a label counts as heard: "0.5", or a file
    pytorch: EventMetrics
    bundle: EventMetrics


@dataclass(frozen=True, kw_only=True)
class SetParity:
    """The comparison of PyTorch and a bundle over a labelled set."""

    name: str
    clips: int
    differences: Differences
    embeddings: EmbeddingDifferences | None = None  # None: the bundle has none
    pytorch: SetMetrics
    bundle: SetMetrics                             # NaN: it gave scores that are not finite
    intervals: Intervals | None = None             # of the bundle's metrics; None likewise
    events: EventParity | None = None              # None: the set has no strong labels
    clip_protocol_map: float | None                # of PyTorch by the paper's protocol; None: it has none
    clip_protocol: str                             # describes that protocol; "": it has none
    origin: Mapping[str, Any]

    @property
    def pytorch_map(self) -> float:
        return self.pytorch.map

    @property
    def bundle_map(self) -> float:
        return self.bundle.map

    @property
    def pytorch_top1(self) -> float:
        return self.pytorch.top1

    @property
    def bundle_top1(self) -> float:
        return self.bundle.top1


@dataclass(frozen=True, kw_only=True)
class ParityResult:
    """Differences between the outputs of two steps, and the gates that judge them."""

    gates: tuple[Gate, ...]
    differences: Mapping[str, Differences]      # by what was compared: "10 min of stream", "golden chunks"
    embeddings: Mapping[str, EmbeddingDifferences] | None = None  # likewise; None: the bundle has none
    curve: tuple[float, ...] | None = None      # mean score difference of each chunk of a long stream, then
                                                # of the chunks repeated at its end; None: no long stream
    drift: Drift | None = None                  # None: no long stream, or one too short to measure drift
    labelled_set: SetParity | None = None       # None: no labelled set was judged

    @property
    def verdict(self) -> str:
        return verdict(self.gates)


@dataclass(frozen=True, kw_only=True)
class ParityReport(ParityResult):
    """A result and facts about the bundle that was compared: `parity.json`."""

    variant: str
    streaming: str                  # what its steps score: "each chunk of 2 s alone"
    target: str                     # the target's name, followed by the graph's options
    bundle_sha256: str
    checkpoint: CheckpointOrigin
    executed: Mapping[str, Mapping[str, int]]
    threads: int | None             # of the bundle's runtime; None: it runs on a GPU
    graph: str | None = None        # the graph of the bundle that was run; None: the bundle itself
    runtime: str | None = None      # the runtime that ran it; None: the bundle's, in this process
    origin: Mapping[str, Any] = field(default_factory=origin)

    @property
    def warning(self) -> str | None:
        """A sentence for the user if the weights are random; None otherwise."""
        return RANDOM_WEIGHTS if self.checkpoint.source == "random" else None


def describe_left_out(facts: Mapping[str, Any]) -> Iterator[str]:
    """Yield sentences on what is missing in a set, from its origin."""
    for key, what in (("missing", "Clips of the list without a recording"),
                      ("unreadable", "Clips that cannot be read and are left out"),
                      ("events_behind_end", "Events that begin behind the end of their recording, so that "
                                            "nothing can find them")):
        if count := facts.get(key):
            names = [str(name) for name in facts[f"{key}_clips"]]
            more = f" and {len(names) - 3} more" if len(names) > 3 else ""
            yield f"{what}: {count} ({'; '.join(names[:3])}{more})."


def report_parity(tagger: Tagger, result: ParityResult, threads: int | None = None, *,
                  graph: str | None = None, runtime: str | None = None) -> ParityReport:
    """Return the report on a loaded bundle. `threads` is the number that it was loaded with. `graph` and
    `runtime` name the graph and the runtime that ran, if they are not those of the bundle itself; that of a
    step in another process is its own."""
    if isinstance(tagger.step, RemoteStep):
        runtime = tagger.step.runtime
    return ParityReport(**vars(result), **_facts(tagger.bundle), executed=tagger.step.executed(),
                        threads=threads, graph=graph, runtime=runtime)


def report_skipped(bundle: Bundle, why: str) -> ParityReport:
    """Return the report on a bundle that this machine cannot run: its gates are skipped, and `why`."""
    gates = [Gate(name=name, status="skipped", value=None, limit=limit, note=why) for name, limit in (
        ("largest score difference", bundle.gates.max_score_difference), ("mAP kept", bundle.gates.map_kept),
        *bundle.gates.metrics.items())]
    return ParityReport(gates=tuple(gates), differences={}, **_facts(bundle), executed={}, threads=None)


def _facts(bundle: Bundle) -> dict[str, Any]:
    """The fields of a report that say which bundle it is about."""
    contract = bundle.contract
    return {"variant": contract.variant, "streaming": contract.streaming,
            "target": f"{bundle.target.name}{contract.options.suffix}", "bundle_sha256": bundle.sha256,
            "checkpoint": contract.checkpoint}
