"""Measure: what a bundle takes and how fast it is, beside PyTorch eager and beside the paper.

Each bundle, and PyTorch once per checkpoint, runs in a process of its own (`satexport.measure.worker`). They
take turns, A B A B, and only one works at a time, so that a machine that becomes slower or faster
does so for all of them: quote the ratios, not the milliseconds. What each figure means stands in
`satexport.report.figures`, and in every report.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import asdict, dataclass, replace
from typing import Any, cast

from satexport.bundle.contract import ANY, state_bytes
from satexport.bundle.folder import Bundle
from satexport.errors import BundleError, CheckpointError, MissingError, UsageError
from satexport.measure.budgets import budget_gates, bundle_figures
from satexport.measure.latency import StepLatency, take_turns
from satexport.measure.process import Process
from satexport.measure.records import MeasureEntry, MeasureReport, MemoryBytes
from satexport.measure.schedule import PAUSE, STEPS, Turn, plan_turns
from satexport.origin import cores
from satexport.progress import progress
from satexport.tagging.tagger import check_streams

Baseline = tuple[str, str, int]  # variant, SHA-256 of the weights, threads


@dataclass(frozen=True, kw_only=True)
class Settings:
    """How to measure."""

    threads: int | None = None    # None: the target's, or all cores
    streams: int | None = None    # of a bundle that leaves their number open
    steps: int = STEPS            # of one turn of a burst
    pause: float = PAUSE          # before a step after a pause, s, above 0
    checkpoint: str | None = None
    eager: bool = True


@dataclass(frozen=True, kw_only=True)
class Row:
    """One line of the tables: a bundle, or PyTorch eager with its weights, in its process."""

    name: str
    bundle: Bundle
    process: Process
    threads: int
    streams: int
    load_seconds: float
    state: int                    # of one stream's cache, bytes
    executed: Mapping[str, Mapping[str, int]] | None    # None: PyTorch eager

    @property
    def is_eager(self) -> bool:
        return self.executed is None

    @property
    def baseline(self) -> Baseline:
        """What must be the same for rows to be compared."""
        contract = self.bundle.contract
        return contract.variant, contract.checkpoint.sha256, self.threads

    def run_turn(self, turn: Turn) -> list[float]:
        """Seconds of each step of a turn."""
        return cast("list[float]", self.process.ask("run", **asdict(turn))["seconds"])


def measure(bundles: Sequence[Bundle], settings: Settings) -> MeasureReport:
    """Return the report on some bundles.

    Raises `MissingError` if a bundle's runtime is not here, `UsageError` for a number of streams
    that a bundle does not run or the memory does not hold, `RunError` if a process dies.
    """
    notes: list[str] = []
    with ExitStack() as stack:
        rows, eager = _start(bundles, settings, stack, notes)
        running = [*rows, *eager.values()]
        turns = plan_turns(settings.steps, settings.pause)
        with progress("measure", len(turns) * len(running)) as advance:
            latencies = take_turns([row.run_turn for row in running], turns, advance)
        entries = [_entry(row, latency, settings, notes)
                   for row, latency in zip(running, latencies, strict=True)]
    measured, references = entries[:len(rows)], dict(zip(eager, entries[len(rows):], strict=True))
    return MeasureReport(
        bundles=tuple(_judge(entry, row, references.get(row.baseline), _one_stream(row, rows, measured))
                      for row, entry in zip(rows, measured, strict=True)),
        eager=tuple(references.values()), notes=tuple(dict.fromkeys(notes)), settings=asdict(settings))


def _start(bundles: Sequence[Bundle], settings: Settings, stack: ExitStack,
           notes: list[str]) -> tuple[list[Row], dict[Baseline, Row]]:
    """Start and load a process per bundle, and one of PyTorch for all with the same weights and
    threads, if it can be."""
    rows: list[Row] = []
    eager: dict[Baseline, Row] = {}
    for bundle, name, streams in zip(bundles, _names(bundles), _streams(bundles, settings), strict=True):
        threads = settings.threads or bundle.target.threads or cores()
        process = stack.enter_context(Process(name))
        loaded = process.ask("load", bundle=str(bundle.path), threads=threads, streams=streams, arena=True)
        row = Row(name=name, bundle=bundle, process=process, threads=threads, streams=streams,
                  load_seconds=loaded["seconds"], state=state_bytes(bundle.contract),
                  executed=loaded["executed"])
        rows.append(row)
        if settings.eager and row.baseline not in eager:
            usual = f"{bundle.contract.variant}/PyTorch eager"
            taken = any(other.name == usual for other in eager.values())
            try:
                eager[row.baseline] = _start_eager(
                    f"PyTorch eager beside {name}" if taken else usual, row, settings, stack)
            except (CheckpointError, MissingError, BundleError) as error:
                if settings.checkpoint and not isinstance(error, MissingError):
                    raise
                notes.append(f"no PyTorch beside {bundle.contract.variant}: {error}")
    return rows, eager


def _start_eager(name: str, row: Row, settings: Settings, stack: ExitStack) -> Row:
    process = stack.enter_context(Process(name))
    loaded = process.ask("load_eager", bundle=str(row.bundle.path), checkpoint=settings.checkpoint,
                         threads=row.threads)
    return replace(row, name=name, process=process, streams=1, load_seconds=loaded["seconds"],
                   state=loaded["state"], executed=None)


def _names(bundles: Sequence[Bundle]) -> list[str]:
    """Variant and folder of each bundle, its path where others are called the same."""
    names = [f"{bundle.contract.variant}/{bundle.path.resolve().name}" for bundle in bundles]
    return [name if names.count(name) == 1 else str(bundle.path)
            for name, bundle in zip(names, bundles, strict=True)]


def _streams(bundles: Sequence[Bundle], settings: Settings) -> list[int]:
    """How many streams each bundle is measured with: its own number, or the one that was asked for."""
    own = [bundle.contract.options.streams for bundle in bundles]
    if settings.streams is not None and ANY not in own:
        raise UsageError(f"--streams {settings.streams} is for a bundle that leaves their number open; "
                         f"{bundles[0].path} runs {own[0]}. Export with --streams {settings.streams}.")
    for bundle in (bundle for bundle, streams in zip(bundles, own, strict=True) if streams == ANY):
        if settings.streams is None:
            raise UsageError(f"{bundle.path} runs any number of streams: say with --streams N how many.")
        check_streams(bundle.contract, settings.streams)
    return [settings.streams or 1 if streams == ANY else streams for streams in own]


def _entry(row: Row, latency: StepLatency, settings: Settings, notes: list[str]) -> MeasureEntry:
    """What was measured of one bundle, or of PyTorch with its weights."""
    from satexport.models.families import find_paper_figures

    contract, paper = row.bundle.contract, find_paper_figures(row.bundle.contract)
    resident = cast("int | None", row.process.ask("resident")["bytes"])
    memory = MemoryBytes(weights=None if row.is_eager else row.bundle.graph_bytes, state=row.state,
                         transient=_transient(row, settings, notes), resident=resident)
    entry = MeasureEntry(
        name=row.name, variant=contract.variant, streams=row.streams, threads=row.threads,
        hop_seconds=contract.hop_seconds, latency=latency, memory_bytes=memory,
        load_seconds=row.load_seconds, paper=asdict(paper) if paper else None)
    return entry if row.is_eager else replace(
        entry, bundle=str(row.bundle.path), bundle_sha256=row.bundle.sha256,
        target=row.bundle.target.to_dict(), options=asdict(contract.options), tokens=contract.tokens,
        checkpoint=asdict(contract.checkpoint), operations=row.bundle.operations, executed=row.executed)


def _transient(row: Row, settings: Settings, notes: list[str]) -> int | None:
    """Count in a process of its own: without the arena, and with every allocation slowed down."""
    with Process(row.name) as process:
        try:
            if row.is_eager:
                process.ask("load_eager", bundle=str(row.bundle.path), checkpoint=settings.checkpoint,
                            threads=row.threads)
            else:
                process.ask("load", bundle=str(row.bundle.path), threads=row.threads, streams=row.streams,
                            arena=False)
            return cast(int, process.ask("transient")["bytes"])
        except MissingError as error:
            notes.append(f"transient memory not measured: {error}")
            return None


def _one_stream(row: Row, rows: Sequence[Row], entries: Sequence[MeasureEntry]) -> MeasureEntry | None:
    """What several streams are compared with: the first entry of one stream with the same weights, threads,
    runtime and precision. None for one stream, or if there is none."""
    def kind(of: Row) -> tuple[Any, ...]:
        return of.baseline, of.bundle.target.backend, of.bundle.target.precision

    if row.streams == 1:
        return None
    return next((entry for other, entry in zip(rows, entries, strict=True)
                 if other.streams == 1 and kind(other) == kind(row)), None)


def _judge(entry: MeasureEntry, row: Row, eager: MeasureEntry | None,
           one_stream: MeasureEntry | None) -> MeasureEntry:
    """A bundle's entry with its budgets, beside PyTorch and beside one stream."""
    figures = bundle_figures(entry.latency, entry.memory_bytes)
    entry = replace(entry, gates=budget_gates(row.bundle.target.budgets, figures, f"{entry.name}: "))
    if eager:
        own, other = entry.latency, eager.latency
        entry = replace(entry, eager=eager.name, times_eager={
            "burst": other.burst.median_ms * row.streams / own.burst.median_ms,
            "paused": other.paused.median_ms * row.streams / own.paused.median_ms})
    if one_stream and entry.chunks_per_core_second and one_stream.chunks_per_core_second:
        times = entry.chunks_per_core_second / one_stream.chunks_per_core_second
        entry = replace(entry, times_one_stream=times)
    return entry
