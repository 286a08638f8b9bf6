"""Records above those of parity and measure: what a board made of a build bundle. Imports numpy alone."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from satexport.bundle.gates import Gate, failures, verdict
from satexport.measure.records import MEASURE_DEFINITIONS, MeasureEntry
from satexport.measure.schedule import PAUSE, STEPS
from satexport.parity.records import ParityReport

BUILD_SCHEMA = 1


@dataclass(frozen=True, kw_only=True)
class EngineRecord:
    """An engine that was built, or that could not be."""

    precision: str
    gates: tuple[Gate, ...]          # of its proof, its budgets, and what it computes in
    parity: ParityReport | None      # None: it was not built, or does not run
    measure: MeasureEntry | None     # the same

    @property
    def passed(self) -> bool:
        """No gate failed; a skipped one is no failure."""
        return not failures(self.gates)

    def to_json(self) -> dict[str, Any]:
        return {"precision": self.precision, "verdict": verdict(self.gates),
                "gates": [asdict(gate) for gate in self.gates],
                "parity": self.parity.to_json() if self.parity else None,
                "measure": self.measure.to_json() if self.measure else None}


@dataclass(frozen=True, kw_only=True)
class BuildReport:
    """The engines of a bundle, the best first: `build.json`."""

    bundle_sha256: str
    engines: tuple[EngineRecord, ...]   # at least one
    origin: Mapping[str, Any]           # of the board

    @property
    def kept(self) -> EngineRecord | None:
        """The engine that is kept. None: none passes."""
        return self.engines[0] if self.engines[0].passed else None

    def to_json(self) -> dict[str, Any]:
        return {"kind": "build", "schema": BUILD_SCHEMA, "verdict": verdict(self.engines[0].gates),
                "bundle_sha256": self.bundle_sha256, "kept": self.kept.precision if self.kept else None,
                "engines": [engine.to_json() for engine in self.engines],
                "settings": {"steps": STEPS, "pause": PAUSE},
                "definitions": MEASURE_DEFINITIONS, "origin": dict(self.origin)}


@dataclass(frozen=True, kw_only=True)
class ProofRecord:
    """What a proof found; reports as they lie in the bundle."""

    gates: tuple[Gate, ...] = ()
    parity: Mapping[str, Any] | None = None   # of the bundle; of its own graph where it runs only elsewhere
    twins: Mapping[str, Mapping[str, Any]]    # parity of its other graphs, by name
    measured: Mapping[str, Any] | None = None  # beside the export and PyTorch
    notes: tuple[str, ...] = ()


@dataclass(frozen=True, kw_only=True)
class BundleRecord:
    """What became of a bundle that was made for a target."""

    path: Path
    proof: ProofRecord
    left_out: tuple[str, ...] = ()                # layers in float
    sensitivity: Mapping[str, Any] | None = None  # report of what each layer costs
    finished: Mapping[str, Any] | None = None     # what the backend made of the finished bundle
    notes: tuple[str, ...] = ()                   # what its maker should know
