"""Measure the memory and speed of bundles, in turns with PyTorch eager.

Each bundle, and PyTorch once per checkpoint, runs in a process of its own (`satexport.measure.worker`), all
with the same number of threads. The processes take turns, A B A B, and only one works at a time, so that a
machine that becomes slower or faster affects all of them alike: quote the ratios, not the milliseconds.
`satexport.report.figures` defines the figures, and every report contains their definitions.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import asdict, dataclass, replace
from typing import Any, cast

from satexport.backends.backend import BACKENDS, find_backend, remark_on
from satexport.bundle.contract import ANY, history_bytes, state_bytes
from satexport.bundle.folder import Bundle
from satexport.bundle.threads import live_threads
from satexport.errors import BundleError, CheckpointError, MissingError, UsageError
from satexport.measure.budgets import budget_gates, bundle_figures
from satexport.measure.latency import StepLatency, TurnTimes, take_turns
from satexport.measure.process import Process
from satexport.measure.records import MeasureEntry, MeasureReport, MemoryBytes
from satexport.measure.schedule import PAUSE, STEPS, Turn, plan_turns
from satexport.origin import read_cpu
from satexport.progress import progress
from satexport.tagging.tagger import check_streams

EMULATED = "this CPU is emulated: time and memory say nothing about a device, and budgets are not judged"
Baseline = tuple[str, str]  # variant, SHA-256 of the weights


@dataclass(frozen=True, kw_only=True)
class MeasureOptions:
    """How to measure."""

    threads: int | None = None    # None: the most that `live_threads` chooses for any of the bundles
    spinning: bool = False        # threads use their cores also while they wait
    streams: int | None = None    # for bundles that run any number; None: there is none among them
    steps: int = STEPS            # of each burst, at most
    pause: float = PAUSE          # before each step after a pause, s, above 0
    checkpoint: str | None = None  # file with the weights for PyTorch; None: found by their SHA-256
    eager: bool = True            # also measure PyTorch eager


@dataclass(frozen=True, kw_only=True)
class Row:
    """A bundle, or PyTorch eager with the bundle's weights, and the process that runs it."""

    name: str
    bundle: Bundle
    process: Process
    threads: int
    streams: int
    load_seconds: float
    state: int                    # of one stream, bytes
    executed: Mapping[str, Mapping[str, int]] | None    # None: PyTorch eager

    @property
    def is_eager(self) -> bool:
        return self.executed is None

    @property
    def baseline(self) -> Baseline:
        """What two rows must share to be compared."""
        return _baseline(self.bundle)

    def run_turn(self, turn: Turn) -> TurnTimes:
        """Run a turn in the process and return its times."""
        return TurnTimes(**self.process.ask("run", **asdict(turn)))


def measure(bundles: Sequence[Bundle], options: MeasureOptions) -> MeasureReport:
    """Measure bundles and return the report.

    Raises `MissingError` if a bundle's runtime is not installed, `UsageError` for a number of streams that a
    bundle cannot run or that does not fit into memory, `RunError` if a process dies. If `options.checkpoint`
    is set, raises `CheckpointError` or `BundleError` if PyTorch cannot use it. Otherwise, and if torch is not
    installed, a note in the report says why PyTorch was not measured.
    """
    notes = [EMULATED] if read_cpu().is_emulated else []
    notes += filter(None, [remark_on(bundle.target) for bundle in bundles])
    with ExitStack() as stack:
        with progress("load into processes", None):
            rows, eager = _start(bundles, options, stack, notes)
        running = [*rows, *eager.values()]
        turns = plan_turns(options.steps, options.pause)
        with progress("measure", len(turns) * len(running)) as advance:
            latencies = take_turns([row.run_turn for row in running], turns, advance)
        with progress("measure memory", None):
            entries = [_entry(row, latency, options, notes)
                       for row, latency in zip(running, latencies, strict=True)]
    measured, references = entries[:len(rows)], dict(zip(eager, entries[len(rows):], strict=True))
    return MeasureReport(
        bundles=tuple(_judge(entry, row, references.get(row.baseline),
                             _find_one_stream(row, rows, measured))
                      for row, entry in zip(rows, measured, strict=True)),
        eager=tuple(references.values()), notes=tuple(dict.fromkeys(notes)), settings=asdict(options))


def _start(bundles: Sequence[Bundle], options: MeasureOptions, stack: ExitStack,
           notes: list[str]) -> tuple[list[Row], dict[Baseline, Row]]:
    """Start a process for each bundle and load it there. Where possible, also start a process of PyTorch for
    each `Baseline`, which the bundles with this baseline share. All of them import at the same time, which no
    figure contains, and load one after the other."""
    rows: list[Row] = []
    eager: dict[Baseline, Row] = {}
    names, stream_counts = _name_bundles(bundles), _choose_streams(bundles, options)
    threads = options.threads or max(map(live_threads, bundles))  # the same for all, so that they compare
    processes = [stack.enter_context(Process(name)) for name in names]
    of_eager = {baseline: stack.enter_context(Process(name))
                for baseline, name in _name_eager(bundles, names).items()} if options.eager else {}
    for process, bundle in zip(processes, bundles, strict=True):
        process.begin("prepare", modules=_modules(bundle))
    for process in of_eager.values():
        process.begin("prepare", modules=["torch", "satexport.models.families"])
    for process in (*processes, *of_eager.values()):
        process.reply()
    for process, bundle, name, streams in zip(processes, bundles, names, stream_counts, strict=True):
        loaded = _load(process, bundle, threads, streams, options, arena=True)
        row = Row(name=name, bundle=bundle, process=process, threads=threads, streams=streams,
                  load_seconds=loaded["seconds"], state=state_bytes(bundle.contract),
                  executed=loaded["executed"])
        rows.append(row)
        if process_of_eager := of_eager.pop(_baseline(bundle), None):
            try:
                eager[_baseline(bundle)] = _load_eager(process_of_eager, row, options)
            except (CheckpointError, MissingError, BundleError) as error:
                if options.checkpoint and not isinstance(error, MissingError):
                    raise
                notes.append(f"{bundle.contract.variant} is not compared with PyTorch: {error}")
    return rows, eager


def _name_eager(bundles: Sequence[Bundle], names: Sequence[str]) -> dict[Baseline, str]:
    """Return the name of PyTorch for each baseline."""
    found: dict[Baseline, str] = {}
    for bundle, name in zip(bundles, names, strict=True):
        usual = f"{bundle.contract.variant}/PyTorch eager"
        found.setdefault(_baseline(bundle),
                         usual if usual not in found.values() else f"PyTorch eager for {name}")
    return found


def _baseline(bundle: Bundle) -> Baseline:
    return bundle.contract.variant, bundle.contract.checkpoint.sha256


def _modules(bundle: Bundle) -> list[str]:
    """Return the package that runs a bundle, if this version knows its backend."""
    return [find_backend(bundle.target.backend).PACKAGE] if bundle.target.backend in BACKENDS else []


def _load(process: Process, bundle: Bundle, threads: int, streams: int, options: MeasureOptions,
          arena: bool) -> dict[str, Any]:
    """Load a bundle in its process, and return the reply."""
    return cast("dict[str, Any]", process.ask("load", bundle=str(bundle.path), threads=threads,
                                              streams=streams, spinning=options.spinning, arena=arena))


def _load_eager(process: Process, row: Row, options: MeasureOptions) -> Row:
    """Load PyTorch in its process, with the weights and threads of a bundle's row."""
    loaded = process.ask("load_eager", bundle=str(row.bundle.path), checkpoint=options.checkpoint,
                         threads=row.threads)
    return replace(row, name=process.name, process=process, streams=1, load_seconds=loaded["seconds"],
                   state=loaded["cache"] + history_bytes(row.bundle.contract), executed=None)


def _name_bundles(bundles: Sequence[Bundle]) -> list[str]:
    """Return a name for each bundle: its variant and folder, or its path if several share these."""
    names = [f"{bundle.contract.variant}/{bundle.path.resolve().name}" for bundle in bundles]
    return [name if names.count(name) == 1 else str(bundle.path)
            for name, bundle in zip(names, bundles, strict=True)]


def _choose_streams(bundles: Sequence[Bundle], options: MeasureOptions) -> list[int]:
    """Return the number of streams to measure each bundle with: the bundle's own, or `options.streams` for
    one that runs any number. Raises `UsageError` if that is missing, needless or too large."""
    counts = [bundle.contract.options.streams for bundle in bundles]
    if options.streams is not None and ANY not in counts:
        raise UsageError(f"--streams {options.streams} is for a bundle that runs any number of streams; "
                         f"{bundles[0].path} runs {counts[0]}. Export with --streams {options.streams}.")
    for bundle in (bundle for bundle, count in zip(bundles, counts, strict=True) if count == ANY):
        if options.streams is None:
            raise UsageError(f"{bundle.path} runs any number of streams: add --streams N.")
        check_streams(bundle.contract, options.streams)
    return [options.streams or 1 if count == ANY else count for count in counts]


def _entry(row: Row, latency: StepLatency, options: MeasureOptions, notes: list[str]) -> MeasureEntry:
    """Measure the memory of a row and return its entry, without budgets and comparisons."""
    from satexport.models.families import find_paper_figures

    contract = row.bundle.contract
    paper = next((figures for figures in find_paper_figures(contract) if figures.gflops or figures.map), None)
    remote = cast("dict[str, Any]", row.process.ask("remote") or {})
    memory = MemoryBytes(
        weights=None if row.is_eager else row.bundle.graph_bytes, state=row.state,
        transient=None if remote else _measure_transient(row, options, notes),
        resident=remote["resident"] if remote else row.process.ask("resident")["bytes"],
        heap=remote.get("heap"), download=remote.get("download"))
    entry = MeasureEntry(
        name=row.name, variant=contract.variant, streams=row.streams, threads=row.threads,
        streaming=contract.streaming, hop_seconds=contract.hop_seconds, latency=latency, memory_bytes=memory,
        load_seconds=row.load_seconds,
        paper=asdict(paper) | {"source": paper.source} if paper else None)
    return entry if row.is_eager else replace(
        entry, spinning=_spins(row, options), runtime=remote.get("runtime"),
        bundle=str(row.bundle.path), bundle_sha256=row.bundle.sha256,
        target=row.bundle.target.to_dict(), options=asdict(contract.options), tokens=contract.tokens,
        checkpoint=asdict(contract.checkpoint), operations=row.bundle.operations, executed=row.executed)


def _spins(row: Row, options: MeasureOptions) -> bool:
    """Return whether the threads of a bundle were loaded so that they spin, which not every runtime can."""
    return options.spinning and row.threads > 1 and find_backend(row.bundle.target.backend).CAN_SPIN


def _measure_transient(row: Row, options: MeasureOptions, notes: list[str]) -> int | None:
    """Count the transient bytes of a step, after everything else that is measured in its process: counting
    slows every allocation down, and a bundle is loaded again, without the arena. Returns None and adds a note
    if memray is not installed."""
    try:
        if not row.is_eager:
            _load(row.process, row.bundle, row.threads, row.streams, options, arena=False)
        return cast(int, row.process.ask("transient")["bytes"])
    except MissingError as error:
        notes.append(f"transient memory not measured: {error}")
        return None


def measure_transient(bundle: Bundle) -> int:
    """Count the transient bytes of a step of a bundle for one stream, in a process of its own with one
    thread. Raises `MissingError` if memray or the bundle's runtime is not installed."""
    with Process(bundle.contract.variant) as process:
        _load(process, bundle, 1, 1, MeasureOptions(), arena=False)
        return cast(int, process.ask("transient")["bytes"])


def _find_one_stream(row: Row, rows: Sequence[Row], entries: Sequence[MeasureEntry]) -> MeasureEntry | None:
    """Return the entry that a row of several streams is compared with: the first of one stream with the same
    weights, runtime and precision. None if there is none, or the row itself has one stream."""
    def comparable(row: Row) -> tuple[Any, ...]:
        return row.baseline, row.bundle.target.backend, row.bundle.target.precision

    if row.streams == 1:
        return None
    return next((entry for other, entry in zip(rows, entries, strict=True)
                 if other.streams == 1 and comparable(other) == comparable(row)), None)


def _judge(entry: MeasureEntry, row: Row, eager: MeasureEntry | None,
           one_stream: MeasureEntry | None) -> MeasureEntry:
    """Return a bundle's entry with the gates over its budgets and its ratios to PyTorch and to one stream."""
    figures = bundle_figures(entry.latency, entry.memory_bytes)
    if read_cpu().is_emulated:
        figures = dict.fromkeys(figures)
    target = row.bundle.target
    entry = replace(entry, gates=budget_gates(target.budgets, figures, f"{entry.name}: ", target.machine))
    if eager:
        entry = replace(entry, eager=eager.name, times_eager={
            "burst": eager.latency.burst.median_ms * row.streams / entry.latency.burst.median_ms,
            "paused": eager.latency.paused.median_ms * row.streams / entry.latency.paused.median_ms})
    if one_stream and entry.chunks_per_core_second and one_stream.chunks_per_core_second:
        times = entry.chunks_per_core_second / one_stream.chunks_per_core_second
        entry = replace(entry, times_one_stream=times)
    return entry
