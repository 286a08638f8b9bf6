"""The records of measurements, the same on every device and from every command.

A bundle, PyTorch eager and an engine on a board each have a `MeasureEntry`. `MeasureReport` is
`measure.json`; `satexport.report.records.BuildReport` holds the entries of a board's engines.
`satexport.report.figures` names and defines the figures. Imports only numpy.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from satexport.bundle.contract import RANDOM_WEIGHTS
from satexport.bundle.gates import Gate, verdict
from satexport.measure.latency import StepLatency
from satexport.origin import origin


@dataclass(frozen=True, kw_only=True)
class MemoryBytes:
    """Memory by kind, in bytes; None: not counted."""

    weights: int | None
    state: int                   # of one stream: cache and earlier audio
    transient: int | None
    resident: int | None
    device: int | None = None    # only for an engine
    heap: int | None = None      # only in a browser
    download: int | None = None  # likewise, compressed


@dataclass(frozen=True, kw_only=True)
class MeasureEntry:
    """The measurement of a bundle, of PyTorch eager or of an engine. A field whose default is None is in the
    JSON only if it is set."""

    name: str
    variant: str
    streams: int
    threads: int | None              # None: an engine, which does not compute in CPU threads
    streaming: str                   # what its steps score: "each chunk of 2 s alone"
    hop_seconds: float               # seconds of new audio in each step
    latency: StepLatency
    memory_bytes: MemoryBytes
    load_seconds: float | None       # None: not measured
    paper: Mapping[str, Any] | None  # the paper's figures of this variant; None: it has none

    # Of a bundle or an engine
    bundle: str | None = None        # path
    bundle_sha256: str | None = None
    target: Mapping[str, Any] | None = None
    options: Mapping[str, Any] | None = None      # of the graph
    tokens: Mapping[str, int] | None = None       # of one step: "new" and "cached"
    checkpoint: Mapping[str, str] | None = None
    operations: Mapping[str, int] | None = None
    executed: Mapping[str, Mapping[str, int]] | None = None
    gates: tuple[Gate, ...] | None = None         # of its budgets

    # Of a bundle
    spinning: bool | None = None     # whether it was loaded so that threads use their cores while they wait
    eager: str | None = None         # name of the PyTorch entry that it is compared with
    times_eager: Mapping[str, float] | None = None
    times_one_stream: float | None = None
    runtime: str | None = None       # what runs it, if that is another process

    # Of an engine
    precision: str | None = None
    build_seconds: float | None = None
    cuda_graphs: bool | None = None

    @property
    def real_time_factor(self) -> float:
        return self.latency.paused.median_ms / 1000 / self.hop_seconds

    @property
    def cpu_ms(self) -> float:
        """CPU time of one chunk of one stream."""
        return self.latency.paused_cpu_ms / self.streams

    @property
    def cpu_percent(self) -> float:
        """The share of one core that one stream takes, in percent."""
        return self.cpu_ms / 10 / self.hop_seconds

    @property
    def chunks_per_core_second(self) -> float | None:
        """None for an engine, which does not compute in CPU threads."""
        return self.streams / (self.latency.burst.median_ms / 1000 * self.threads) if self.threads else None


@dataclass(frozen=True, kw_only=True)
class MeasureReport:
    """Bundles and PyTorch eager, measured in turns: `measure.json`."""

    bundles: tuple[MeasureEntry, ...]
    eager: tuple[MeasureEntry, ...]      # PyTorch, one entry for each `Baseline` of the bundles
    notes: tuple[str, ...]               # what could not be measured, and why
    settings: Mapping[str, Any]
    origin: Mapping[str, Any] = field(default_factory=origin)

    @property
    def gates(self) -> tuple[Gate, ...]:
        """The gates over the budgets of all bundles."""
        return tuple(gate for entry in self.bundles for gate in entry.gates or ())

    @property
    def verdict(self) -> str:
        return verdict(self.gates)

    @property
    def machine(self) -> str:
        """The CPU and the threads of the measurement: "AMD EPYC, 2 threads, spinning"."""
        threads = list(dict.fromkeys(entry.threads for entry in (*self.bundles, *self.eager)))
        spinning = ", spinning" if any(entry.spinning for entry in self.bundles) else ""
        return (f"{self.origin['cpu']}, {', '.join(map(str, threads))} thread{'' if threads == [1] else 's'}"
                f"{spinning}")

    @property
    def warning(self) -> str | None:
        """A sentence for the user if any weights are random; None otherwise."""
        sources = {entry.checkpoint["source"] for entry in self.bundles if entry.checkpoint}
        return RANDOM_WEIGHTS if "random" in sources else None

    def select_bundle(self, number: int) -> MeasureReport:
        """Return the report of only one bundle and the PyTorch entry that it is compared with."""
        entry = self.bundles[number]
        return replace(self, bundles=(entry,),
                       eager=tuple(row for row in self.eager if row.name == entry.eager))
