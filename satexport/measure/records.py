"""What was measured, as records: one for each thing that steps, on any device and by any command.

A bundle, PyTorch beside it and an engine on a board have the same record, `MeasureEntry`; `MeasureReport`
is `measure.json`, and `satexport.report.records.BuildReport` holds the entries of a board's engines. Imports
numpy alone.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from typing import Any

from satexport.bundle.contract import RANDOM_WEIGHTS
from satexport.bundle.gates import Gate, verdict
from satexport.facts import present_fields
from satexport.measure.latency import StepLatency
from satexport.measure.schedule import LATENCY_DEFINITIONS
from satexport.origin import origin
from satexport.step import EXECUTED

MEASURE_SCHEMA = 1
MEASURE_DEFINITIONS = {
    "weights": "bytes of the graph's file, and of that of its weights where they have one of their own; of "
               "an engine its file's",
    "state": "bytes of one stream's cache, one copy; ONNX Runtime holds two per stream, which take turns",
    "transient": "most bytes allocated at a time inside one steady step, counted by memray, ONNX Runtime's "
                 "arena off; caches, input and scores are bound buffers and not in it; OpenVINO lays its "
                 "tensors out when a request is made, so they are in `resident` alone",
    "resident": "peak resident size of a fresh process that only loads the bundle and runs it, above the "
                "same process after its imports; the runtime as it is used, arena on",
    "device": "of an engine: device memory that is free before it is loaded, minus that which is free when "
              "it has run; on a Jetson the memory is the host's, too",
    "executed": EXECUTED,
    "layers": "in `executed`, of an engine: what the engine inspector says of each layer's outputs; `fused` "
              "are layers that TensorRT made of many and does not look into. The network is strongly typed: "
              "precisions are the graph's",
    "load": "seconds from a closed bundle to a step that can run: hashes, session, initial cache",
    "build": "of an engine: seconds that TensorRT took to build it",
    "cuda_graphs": "of an engine: whether its steps are captured CUDA graphs",
    **LATENCY_DEFINITIONS,
    "real_time_factor": "median step after a pause / seconds of audio in it",
    "chunks_per_core_second": "streams / (median step of a burst * threads)",
    "times_one_stream": "chunks per core-second of several streams / those of the first bundle of the same "
                        "runtime and precision that runs one, same weights, same run, same threads",
    "times_eager": "median of PyTorch eager * streams / median of the bundle, same run, same threads",
    "eager": "the published model in PyTorch, not compiled, float32, with its own front end and the cache as "
             "it was published: audio in, scores out, one stream; a bundle that hears mel is measured "
             "without a front end beside it",
    "paper": "what the model's paper claims, by its own definitions; `note` says how they differ",
}


@dataclass(frozen=True, kw_only=True)
class MemoryBytes:
    """Memory by kind, bytes; None: not counted here. See `MEASURE_DEFINITIONS`."""

    weights: int | None
    state: int
    transient: int | None
    resident: int | None
    device: int | None = None    # of an engine


@dataclass(frozen=True, kw_only=True)
class MeasureEntry:
    """What was measured of a bundle, of PyTorch eager or of an engine. A field that is None by default stands
    in the JSON only if it is set."""

    name: str
    variant: str
    streams: int
    threads: int | None              # None: an engine has none
    hop_seconds: float               # of audio that are new in each step
    latency: StepLatency
    memory_bytes: MemoryBytes
    load_seconds: float | None       # None: not measured
    paper: Mapping[str, Any] | None  # figures of this variant; None: it has none

    bundle: str | None = None        # its path
    bundle_sha256: str | None = None
    target: Mapping[str, Any] | None = None
    options: Mapping[str, Any] | None = None      # of its graph
    tokens: Mapping[str, int] | None = None       # of one step: "new" and "cached"
    checkpoint: Mapping[str, str] | None = None
    operations: Mapping[str, int] | None = None
    executed: Mapping[str, Mapping[str, int]] | None = None
    gates: tuple[Gate, ...] | None = None         # its budgets

    eager: str | None = None         # the name of PyTorch beside it
    times_eager: Mapping[str, float] | None = None
    times_one_stream: float | None = None

    precision: str | None = None     # of an engine
    build_seconds: float | None = None
    cuda_graphs: bool | None = None

    @property
    def real_time_factor(self) -> float:
        return self.latency.paused.median_ms / 1000 / self.hop_seconds

    @property
    def chunks_per_core_second(self) -> float | None:
        """None if it has no threads of its own."""
        return self.streams / (self.latency.burst.median_ms / 1000 * self.threads) if self.threads else None

    def to_json(self) -> dict[str, Any]:
        facts = present_fields(self)
        latency = facts.pop("latency")
        return {**facts, **latency, "memory_bytes": present_fields(self.memory_bytes),
                "real_time_factor": self.real_time_factor,
                "chunks_per_core_second": self.chunks_per_core_second}


@dataclass(frozen=True, kw_only=True)
class MeasureReport:
    """Bundles that were measured in turns, and PyTorch beside them."""

    bundles: tuple[MeasureEntry, ...]
    eager: tuple[MeasureEntry, ...]
    notes: tuple[str, ...]               # what could not be measured, and why
    settings: Mapping[str, Any]
    definitions: Mapping[str, str]
    origin: Mapping[str, Any] = field(default_factory=origin)

    @property
    def gates(self) -> tuple[Gate, ...]:
        """The budgets of all bundles."""
        return tuple(gate for entry in self.bundles for gate in entry.gates or ())

    @property
    def warning(self) -> str | None:
        """Whether figures are of random weights, in words."""
        sources = {entry.checkpoint["source"] for entry in self.bundles if entry.checkpoint}
        return RANDOM_WEIGHTS if "random" in sources else None

    def select_bundle(self, number: int) -> MeasureReport:
        """The part that is about one of the bundles."""
        entry = self.bundles[number]
        return replace(self, bundles=(entry,),
                       eager=tuple(row for row in self.eager if row.name == entry.eager))

    def to_json(self) -> dict[str, Any]:
        return {
            "kind": "measure", "schema": MEASURE_SCHEMA, "verdict": verdict(self.gates),
            "gates": [asdict(gate) for gate in self.gates],
            "bundles": [entry.to_json() for entry in self.bundles],
            "eager": [entry.to_json() for entry in self.eager],
            "notes": list(self.notes), "definitions": dict(self.definitions),
            "settings": dict(self.settings), "warning": self.warning, "origin": dict(self.origin)}
