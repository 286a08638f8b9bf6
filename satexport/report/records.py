"""Records of an export, of a board's engines and of a built bundle; they contain those of parity and measure.

Imports only numpy.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from satexport.bundle.contract import RANDOM_WEIGHTS, CheckpointOrigin, GraphOptions
from satexport.bundle.gates import Gate, failures, verdict
from satexport.measure.records import MeasureEntry, MeasureReport
from satexport.origin import origin
from satexport.parity.records import ParityReport
from satexport.quantize.records import SensitivityReport
from satexport.report.paper_records import PaperReport, ScoresReport


@dataclass(frozen=True, kw_only=True)
class Stage:
    """A graph after a stage of an export. Its differences are the largest of any score over a chain of
    chunks."""

    name: str
    nodes: int
    bytes: int
    from_before: float | None   # from the graph of the stage before; None for the first stage
    from_pytorch: float
    embedding_from_pytorch: float | None  # relative, of any embedding; None: the graph has none
    kept: bool = True
    why_not: str = ""           # why it was not kept


@dataclass(frozen=True, kw_only=True)
class GoldenDifference:
    """The comparison of the finished graph with PyTorch over the golden chunks."""

    chunks: int
    max_difference: float       # of any score
    embedding: float | None = None  # relative, of any embedding; None: the graph has none


@dataclass(frozen=True, kw_only=True)
class ExportReport:
    """What an export did and proved: `export.json`. It contains no time, so that the same checkpoint gives
    the same bytes."""

    variant: str
    streaming: str                     # what its steps score: "each chunk of 2 s alone"
    target: str                        # the name of the bundle's folder
    opset: int
    options: GraphOptions
    checkpoint: CheckpointOrigin
    operations: Mapping[str, int]      # of one chunk of one stream: "model" and "front_end"
    stages: tuple[Stage, ...]
    golden: GoldenDifference
    embedding: str | None = None       # kind and size of the graph's embedding; None: it has none
    caution: str | None                # what the user must check, because the checkpoint does not tell it
    origin: Mapping[str, Any] = field(default_factory=origin)

    @property
    def warning(self) -> str | None:
        """A sentence for the user if the weights are random; None otherwise."""
        return RANDOM_WEIGHTS if self.checkpoint.source == "random" else None


@dataclass(frozen=True, kw_only=True)
class ExportRecord:
    """An export: the bundle and its report."""

    path: Path
    report: ExportReport


@dataclass(frozen=True, kw_only=True)
class EngineRecord:
    """An engine that was built, or that could not be."""

    precision: str
    gates: tuple[Gate, ...]          # of its proof, its budgets and the precisions that it computes in
    parity: ParityReport | None      # None: it was not built or does not run
    measure: MeasureEntry | None     # None: it was not built or does not run

    @property
    def verdict(self) -> str:
        return verdict(self.gates)

    @property
    def passed(self) -> bool:
        """Whether no gate failed; a skipped gate did not fail."""
        return not failures(self.gates)


@dataclass(frozen=True, kw_only=True)
class BoardFacts:
    """The machine that engines are built on."""

    tensorrt: str
    device: str                # its name for people
    compute_capability: str


@dataclass(frozen=True, kw_only=True)
class BuildReport:
    """The engines of a bundle, the best first: `build.json`."""

    bundle_sha256: str
    engines: tuple[EngineRecord, ...]   # at least one
    board: BoardFacts
    settings: Mapping[str, Any]         # of the measurement
    origin: Mapping[str, Any] = field(default_factory=origin)

    @property
    def verdict(self) -> str:
        return self.engines[0].verdict

    @property
    def kept(self) -> str | None:
        """The precision of the engine that is kept; None if no engine passes its gates."""
        return self.engines[0].precision if self.engines[0].passed else None


@dataclass(frozen=True, kw_only=True)
class CaseResult:
    """A case of a matrix: the bundle that was made, proven and measured, or why it was not."""

    name: str
    table: str                       # title of the table that shows it
    fingerprint: str                 # SHA-256 of everything that the result depends on
    why_not: str = ""                # why there is no result; "": there is one
    is_error: bool = False           # the case ended with an error; otherwise this machine cannot run it
    bundle: str | None = None        # its path, relative to the report
    bundle_sha256: str | None = None
    gates: tuple[Gate, ...] = ()     # of the proof and the budgets
    parity: ParityReport | None = None   # without the curve, which the bundle's own report has
    measured: MeasureReport | None = None
    live: MeasureEntry | None = None     # its CPU time as a live stream's, if that was measured
    busy_cores: float | None = None      # by other work when the measurement began; None: not measured

    @property
    def status(self) -> str:
        """"passed", "failed", or "skipped": it was not run or not proven, or a gate could not be judged."""
        if self.why_not:
            return "failed" if self.is_error else "skipped"
        found = verdict(self.gates)
        return found if found == "failed" or self.parity else "skipped"

    @property
    def reason(self) -> str:
        """Why it did not pass, in one line; empty if it passed."""
        skipped = [f"{gate.name}: {gate.note}" for gate in self.gates if gate.status == "skipped"]
        unproven = [] if self.parity and self.gates else ["not proven"]
        return self.why_not or failures(self.gates) or "; ".join([*unproven, *skipped])

    @property
    def budget_gates(self) -> tuple[Gate, ...]:
        """The gates of the measurement."""
        return self.measured.gates if self.measured else ()

    @property
    def proof_gates(self) -> tuple[Gate, ...]:
        """The gates of the proof."""
        return self.gates[:len(self.gates) - len(self.budget_gates)]

    @property
    def caution(self) -> str | None:
        """A sentence for the user if other work kept more than half of the cores busy; None otherwise."""
        if not self.measured or self.busy_cores is None:
            return None
        cores = self.measured.origin["cpu_cores"]
        return (f"{self.name}: when its measurement began, other work kept {self.busy_cores:.1f} of {cores} "
                "cores busy: its times are too long." if self.busy_cores > cores / 2 else None)

    @property
    def entry(self) -> MeasureEntry | None:
        """The measurement of the bundle."""
        return self.measured.bundles[0] if self.measured else None


@dataclass(frozen=True, kw_only=True)
class MatrixReport:
    """The cases of a matrix that have a result: `NAME.json` in its output folder."""

    matrix: str                          # name of the file
    cases: tuple[CaseResult, ...]
    missing: tuple[str, ...] = ()        # cases without a result
    outdated: tuple[str, ...] = ()       # cases whose result is of another row, version or machine
    tables: Mapping[str, str] = field(default_factory=dict)  # title -> note, in the order of the matrix
    origin: Mapping[str, Any] = field(default_factory=origin)

    @property
    def verdict(self) -> str:
        """"failed" if any case failed, "passed" if all passed, otherwise "skipped"."""
        found = {case.status for case in self.cases} | ({"skipped"} if self.missing else set())
        return next((status for status in ("failed", "skipped") if status in found), "passed")

    @property
    def warning(self) -> str | None:
        """A sentence for the user if any weights are random; None otherwise."""
        return next((case.parity.warning for case in self.cases if case.parity and case.parity.warning), None)


Report = (ExportReport | ParityReport | MeasureReport | SensitivityReport | BuildReport | MatrixReport
          | PaperReport | ScoresReport)
KINDS: Mapping[str, type] = {  # `kind` in the JSON -> record, in the order in which a bundle gets its reports
    "export": ExportReport, "sensitivity": SensitivityReport, "parity": ParityReport,
    "measure": MeasureReport, "build": BuildReport, "matrix": MatrixReport, "paper": PaperReport,
    "scores": ScoresReport}


def kind_of(report: Report) -> str:
    """Return the kind of a report, a key of KINDS."""
    return next(kind for kind, record in KINDS.items() if type(report) is record)


@dataclass(frozen=True, kw_only=True)
class ProofRecord:
    """The results of a proof."""

    gates: tuple[Gate, ...] = ()
    parity: ParityReport | None = None       # of the bundle; of its main graph if only other machines run it
    twins: Mapping[str, ParityReport] = field(default_factory=dict)  # of its other graphs, by name
    measured: MeasureReport | None = None    # with the export and PyTorch
    notes: Sequence[str] = ()


@dataclass(frozen=True, kw_only=True)
class BundleRecord:
    """A bundle that was built for a target."""

    path: Path
    proof: ProofRecord
    left_out: tuple[str, ...] = ()                # layers in float
    sensitivity: SensitivityReport | None = None
    finished: Mapping[str, Any] | None = None     # what the backend reports on the finished bundle
    notes: Sequence[str] = ()                     # for the user who builds it
