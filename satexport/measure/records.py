"""What was measured, as records: one for each thing that steps, on any device and by any command.

A bundle, PyTorch beside it and an engine on a board have the same record, `MeasureEntry`; `MeasureReport`
is `measure.json`, and `satexport.report.records.BuildReport` holds the entries of a board's engines. What
their figures are called and mean stands in `satexport.report.figures`. Imports only numpy.
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
    """Memory by kind, bytes; None: not counted."""

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


@dataclass(frozen=True, kw_only=True)
class MeasureReport:
    """Bundles that were measured in turns, and PyTorch beside them."""

    bundles: tuple[MeasureEntry, ...]
    eager: tuple[MeasureEntry, ...]
    notes: tuple[str, ...]               # what could not be measured, and why
    settings: Mapping[str, Any]
    origin: Mapping[str, Any] = field(default_factory=origin)

    @property
    def gates(self) -> tuple[Gate, ...]:
        """The budgets of all bundles."""
        return tuple(gate for entry in self.bundles for gate in entry.gates or ())

    @property
    def verdict(self) -> str:
        return verdict(self.gates)

    @property
    def machine(self) -> str:
        """What it was measured on: "AMD EPYC, 2 threads"."""
        threads = list(dict.fromkeys(entry.threads for entry in (*self.bundles, *self.eager)))
        return f"{self.origin['cpu']}, {', '.join(map(str, threads))} thread{'' if threads == [1] else 's'}"

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
