"""The records of parity, over golden chunks, a long stream or a labelled set; the same on every device and
from every command. `satexport.report.figures` names and defines the figures. Imports only numpy.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from satexport.bundle.contract import RANDOM_WEIGHTS, CheckpointOrigin
from satexport.bundle.folder import Bundle
from satexport.bundle.gates import Gate, verdict
from satexport.origin import origin
from satexport.parity.differences import Differences, Drift, EmbeddingDifferences
from satexport.remote import RemoteStep
from satexport.tagging.tagger import Tagger


@dataclass(frozen=True, kw_only=True)
class SetParity:
    """The comparison of PyTorch and a bundle over a labelled set."""

    name: str
    clips: int
    differences: Differences
    embeddings: EmbeddingDifferences | None = None  # None: the bundle has none
    pytorch_map: float
    bundle_map: float
    pytorch_top1: float
    bundle_top1: float
    clip_protocol_map: float | None                # of PyTorch by the paper's protocol; None: it has none
    clip_protocol: str                             # describes that protocol; "": it has none
    average_precision: Mapping[str, tuple[float, float]]  # class -> (PyTorch, bundle)
    origin: Mapping[str, Any]


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
        ("largest score difference", bundle.gates.max_score_difference), ("mAP kept", bundle.gates.map_kept))]
    return ParityReport(gates=tuple(gates), differences={}, **_facts(bundle), executed={}, threads=None)


def _facts(bundle: Bundle) -> dict[str, Any]:
    """The fields of a report that say which bundle it is about."""
    contract = bundle.contract
    return {"variant": contract.variant, "streaming": contract.streaming,
            "target": f"{bundle.target.name}{contract.options.suffix}", "bundle_sha256": bundle.sha256,
            "checkpoint": contract.checkpoint}
