"""What parity found, as records: of golden chunks, of a long stream and of a labelled set, on any device and
by any command. What their figures are called and mean stands in `satexport.report.figures`. Imports only
numpy.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from satexport.bundle.contract import RANDOM_WEIGHTS, CheckpointOrigin
from satexport.bundle.gates import Gate, verdict
from satexport.origin import origin
from satexport.parity.differences import Differences, Drift
from satexport.tagging.tagger import Tagger


@dataclass(frozen=True, kw_only=True)
class SetParity:
    """A labelled set scored by both."""

    name: str
    clips: int
    differences: Differences
    pytorch_map: float
    bundle_map: float
    clip_protocol_map: float | None                # PyTorch, the paper's protocol; None: it has none
    clip_protocol: str                             # what that protocol is; "": it has none
    average_precision: Mapping[str, tuple[float, float]]  # class -> PyTorch, bundle
    origin: Mapping[str, Any]


@dataclass(frozen=True, kw_only=True)
class ParityResult:
    """How far two steps are apart, and the gates over it."""

    gates: tuple[Gate, ...]
    differences: Mapping[str, Differences]      # over what -> how far
    curve: tuple[float, ...] | None = None      # mean score difference of each chunk of a long stream, then
                                                # of those repeated at its end; None: there was none
    drift: Drift | None = None                  # None: no long stream, or it is too short to tell
    labelled_set: SetParity | None = None       # None: no labelled set was judged

    @property
    def verdict(self) -> str:
        return verdict(self.gates)


@dataclass(frozen=True, kw_only=True)
class ParityReport(ParityResult):
    """A result, and what it is about: `parity.json`."""

    variant: str
    target: str                     # its name, with the graph's options
    bundle_sha256: str
    checkpoint: CheckpointOrigin
    executed: Mapping[str, Mapping[str, int]]
    threads: int | None             # None: the target's, or the runtime decides
    graph: str | None = None        # the graph of the bundle that was run; None: the bundle as it is
    runtime: str | None = None      # the runtime that ran it; None: the bundle's
    origin: Mapping[str, Any] = field(default_factory=origin)

    @property
    def warning(self) -> str | None:
        """Whether the weights are random, in words."""
        return RANDOM_WEIGHTS if self.checkpoint.source == "random" else None


def report_parity(tagger: Tagger, result: ParityResult, threads: int | None = None, *,
                  graph: str | None = None, runtime: str | None = None) -> ParityReport:
    """Return the report on a loaded bundle that runs with this many threads. `graph` and `runtime` say what
    was run if it was not the bundle as it is."""
    contract = tagger.contract
    return ParityReport(
        **vars(result), variant=contract.variant, bundle_sha256=tagger.bundle.sha256,
        target=f"{tagger.bundle.target.name}{contract.options.suffix}", checkpoint=contract.checkpoint,
        executed=tagger.step.executed(), threads=threads, graph=graph, runtime=runtime)
