"""What parity found, as records: of golden chunks, of a long stream and of a labelled set, on any device and
by any command. Imports numpy alone.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from satexport.bundle.contract import RANDOM_WEIGHTS, CheckpointOrigin
from satexport.bundle.gates import Gate, verdict
from satexport.origin import origin
from satexport.parity.differences import Differences, Drift
from satexport.step import EXECUTED
from satexport.tagging.tagger import Tagger

PARITY_SCHEMA = 1
PARITY_DEFINITIONS = {
    "score difference": "absolute difference of one class's score in one chunk, candidate minus "
                        "PyTorch fp32, the cache carried from chunk to chunk on both sides",
    "top-1 agreement": "share of chunks in which both rank the same class first",
    "p50, p90, p99": "quantiles over the chunks of a chunk's mean score difference; curve: all of them",
    "drift": "after its minutes the stream hears its first sounds again; slope: mean score difference then "
             "minus that of the first time, over the chunks between; drift: slope times length over mean. "
             "Chunks in which the cache still remembers other sounds do not count. A line through the curve "
             "would say little: score differences differ from sound to sound",
    "streamed score": "the stream starts from silence at each clip, the last incomplete chunk is "
                      "padded with zeros, the scores of the clip's chunks are averaged",
    "clip score": "PyTorch only: a clip by the protocol of the model's paper; `clip_protocol` says which",
    "executed": EXECUTED,
    "mAP": "scikit-learn's average_precision_score, mean over the classes with a positive",
}


@dataclass(frozen=True)
class StreamParity:
    """A long stream scored by both."""

    differences: Differences
    drift: Drift | None              # None: the stream is too short to tell
    curve: NDArray[np.float64]       # mean score difference of each chunk, those heard again at its end


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
    average_precision: dict[str, tuple[float, float]]  # class -> PyTorch, bundle
    origin: dict[str, object]


@dataclass(frozen=True, kw_only=True)
class ParityResult:
    """How far two steps are apart, and the gates over it."""

    gates: tuple[Gate, ...]
    differences: Mapping[str, Differences]      # over what -> how far
    stream: StreamParity | None = None          # None: the golden chunks alone
    labelled: SetParity | None = None           # None: no labelled set was judged

    def to_json(self) -> dict[str, Any]:
        result: dict[str, Any] = {
            "verdict": verdict(self.gates), "gates": [asdict(gate) for gate in self.gates],
            "differences": {name: asdict(differences) for name, differences in self.differences.items()}}
        if self.stream:
            result |= {"drift": asdict(self.stream.drift) if self.stream.drift else None,
                       "curve": self.stream.curve.tolist(),
                       "set": asdict(self.labelled) if self.labelled else None}
        return result


@dataclass(frozen=True, kw_only=True)
class ParityReport:
    """A result, and what it is about: `parity.json`."""

    result: ParityResult
    variant: str
    target: str                     # its name, with the graph's options
    bundle_sha256: str
    checkpoint: CheckpointOrigin
    executed: Mapping[str, Mapping[str, int]]
    threads: int | None             # None: the target's, or the runtime decides
    origin: Mapping[str, Any] = field(default_factory=origin)

    def to_json(self) -> dict[str, Any]:
        return {
            "kind": "parity", "schema": PARITY_SCHEMA, **self.result.to_json(), "variant": self.variant,
            "target": self.target, "bundle_sha256": self.bundle_sha256,
            "checkpoint": asdict(self.checkpoint), "executed": dict(self.executed), "threads": self.threads,
            "warning": RANDOM_WEIGHTS if self.checkpoint.source == "random" else None,
            "definitions": PARITY_DEFINITIONS, "origin": dict(self.origin)}


def report_parity(tagger: Tagger, result: ParityResult, threads: int | None = None) -> ParityReport:
    """The report on a loaded bundle, which was given so many threads."""
    contract = tagger.contract
    return ParityReport(
        result=result, variant=contract.variant, bundle_sha256=tagger.bundle.sha256,
        target=f"{tagger.bundle.target.name}{contract.options.suffix}", checkpoint=contract.checkpoint,
        executed=tagger.step.executed(), threads=threads)
