"""Measure: what a bundle takes and how fast it is, beside PyTorch eager and beside the paper.

Each bundle, and PyTorch once per checkpoint, runs in a process of its own (`measure_worker`). They
take turns, A B A B, and only one works at a time, so that a machine that becomes slower or faster
does so for all of them: quote the ratios, not the milliseconds. Definitions: `DEFINITIONS`, which
every report carries.
"""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import asdict, dataclass, field
from types import TracebackType
from typing import Any, cast

import numpy as np

from satexport import errors
from satexport.bundle.contract import ANY, RANDOM_WEIGHTS, state_bytes
from satexport.bundle.folder import Bundle
from satexport.bundle.gates import Gate, budget_gates, figures, verdict
from satexport.errors import CheckpointError, MissingError, RunError, UsageError
from satexport.graph.operations import DEFINITION as OPERATIONS
from satexport.models.sat.paper import DIFFERENCE, PAPER
from satexport.models.sat.variants import DEPTH
from satexport.origin import cores
from satexport.progress import progress
from satexport.step import EXECUTED
from satexport.tagging.tagger import check_streams

TURNS = 10           # of each process
TURN_SECONDS = 1.0   # a turn is over after so much work
PAUSED_TURNS, PAUSED_STEPS = 2, 10
FLOAT = 4            # bytes
DEFINITIONS = {
    "operations": OPERATIONS,
    "weights": "bytes of the graph's file, and of that of its weights where they have one of their own",
    "state": "bytes of one stream's cache, one copy; ONNX Runtime holds two per stream, which take turns",
    "transient": "most bytes allocated at a time inside one steady step, counted by memray, ONNX Runtime's "
                 "arena off; caches, input and scores are bound buffers and not in it; OpenVINO lays its "
                 "tensors out when a request is made, so they are in `resident` alone",
    "resident": "peak resident size of a fresh process that only loads the bundle and runs it, above the "
                "same process after its imports; the runtime as it is used, arena on",
    "executed": EXECUTED,
    "load": "seconds from a closed bundle to a step that can run: hashes, session, initial cache",
    "burst": f"single steps one after the other, in {TURNS} turns, two steps before each not counted; a turn "
             "has as many as the settings say, or what it does in a second",
    "paused": "single steps, each after a pause: what a live stream sees; the p99 of so few is nearly the "
              "slowest of them",
    "real_time_factor": "median step after a pause / seconds of audio in it",
    "chunks_per_core_second": "streams / (median step of a burst * threads)",
    "times_one_stream": "chunks per core-second of several streams / those of the first bundle of the same "
                        "runtime and precision that runs one, same weights, same run, same threads",
    "times_eager": "median of PyTorch eager * streams / median of the bundle, same run, same threads",
    "eager": "PyTorch eager: torch.stft front end, the model with the published hidden-state cache, float32, "
             "torch.inference_mode, audio in, scores out, one stream; a bundle that hears mel is measured "
             "without a front end beside it",
    "paper": DIFFERENCE,
}
Baseline = tuple[str, str, int]  # variant, SHA-256 of the weights, threads


@dataclass(frozen=True)
class Settings:
    """How to measure."""

    threads: int | None = None    # None: the target's, or all cores
    streams: int | None = None    # of a bundle that leaves their number open
    steps: int = 40               # of one turn
    pause: float = 0.25           # s
    checkpoint: str | None = None
    eager: bool = True


class Process:
    """A worker and how to talk to it; leaving the block ends it."""

    def __init__(self, name: str) -> None:
        self.name = name
        self._process = subprocess.Popen(
            [sys.executable, "-m", "satexport.measure.worker"], stdin=subprocess.PIPE,
            stdout=subprocess.PIPE, text=True, start_new_session=True)  # Ctrl-C is for the parent alone

    def __enter__(self) -> Process:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None,
                 trace: TracebackType | None) -> None:
        self._process.kill()
        self._process.communicate()

    def ask(self, do: str, **arguments: Any) -> Any:
        """Have it do something. Raises the error that it met, `RunError` where it died."""
        assert self._process.stdin
        assert self._process.stdout
        try:
            print(json.dumps({"do": do, **arguments}), file=self._process.stdin, flush=True)
            line = self._process.stdout.readline()
        except BrokenPipeError:
            line = ""
        if not line:
            raise RunError(f"{self.name}: the process that is measured ended (exit code "
                           f"{self._process.wait()}); was there enough memory?")
        reply = json.loads(line)
        if "error" in reply:
            raise getattr(errors, reply["error"])(reply["message"])
        return reply


@dataclass
class Row:
    """One line of the tables: a bundle, or PyTorch eager with its weights."""

    name: str
    bundle: Bundle
    process: Process
    threads: int
    streams: int
    load_seconds: float
    is_eager: bool
    burst: list[float]
    paused: list[float]
    executed: dict[str, dict[str, int]] = field(default_factory=dict)


def measure(bundles: Sequence[Bundle], settings: Settings) -> dict[str, Any]:
    """Return the report over some bundles, without its origin.

    Raises `MissingError` where a bundle's runtime is not here, `UsageError` for a number of streams
    that a bundle does not run or the memory does not hold, `RunError` where a process dies.
    """
    notes: list[str] = []
    with ExitStack() as stack:
        rows, eager = _start(bundles, settings, stack, notes)
        turns = [*rows, *eager.values()]
        with progress("measure", (TURNS + PAUSED_TURNS) * len(turns)) as advance:
            _take_turns(turns, settings, advance)
        beside = {baseline: _entry(row, settings, notes) for baseline, row in eager.items()}
        measured = [_entry(row, settings, notes) for row in rows]
    gates: list[Gate] = []
    for row, entry in zip(rows, measured, strict=True):
        if found := beside.get(_baseline(row)):
            entry["eager"] = found["name"]
            entry["times_eager"] = {
                kind: found[kind]["median_ms"] * row.streams / entry[kind]["median_ms"]
                for kind in ("burst", "paused")}
        one = [other["chunks_per_core_second"] for other, its in zip(measured, rows, strict=True)
               if its.streams == 1 and _baseline(its) == _baseline(row)
               and its.bundle.target.backend == row.bundle.target.backend
               and its.bundle.target.precision == row.bundle.target.precision]
        if row.streams > 1 and one:
            entry["times_one_stream"] = entry["chunks_per_core_second"] / one[0]
        own = budget_gates(row.bundle.target.budgets, figures(entry, entry["memory_bytes"]),
                           f"{entry['name']}: ")
        entry["gates"] = [asdict(gate) for gate in own]
        gates += own
    return {
        "kind": "measure", "verdict": verdict(gates), "gates": [asdict(gate) for gate in gates],
        "bundles": measured, "eager": list(beside.values()), "notes": list(dict.fromkeys(notes)),
        "definitions": DEFINITIONS, "settings": asdict(settings),
        "warning": RANDOM_WEIGHTS if any(b.contract.has_random_weights for b in bundles) else None,
    }


def of_bundle(report: Mapping[str, Any], number: int) -> dict[str, Any]:
    """The part of a report that is about one of its bundles."""
    entry = report["bundles"][number]
    gates = [Gate(**gate) for gate in entry["gates"]]
    return {**report, "verdict": verdict(gates), "gates": entry["gates"], "bundles": [entry],
            "eager": [row for row in report["eager"] if row["name"] == entry.get("eager")],
            "warning": RANDOM_WEIGHTS if entry["checkpoint"]["source"] == "random" else None}


def _start(bundles: Sequence[Bundle], settings: Settings, stack: ExitStack,
           notes: list[str]) -> tuple[list[Row], dict[Baseline, Row]]:
    """Start and load a process per bundle, and one of PyTorch for all with the same weights and
    threads, where it can be."""
    rows: list[Row] = []
    eager: dict[Baseline, Row] = {}
    for bundle, name, streams in zip(bundles, _names(bundles), _streams(bundles, settings), strict=True):
        threads = settings.threads or bundle.target.threads or cores()
        process = stack.enter_context(Process(name))
        loaded = process.ask("load", bundle=str(bundle.path), threads=threads, streams=streams, arena=True)
        row = Row(name, bundle, process, threads, streams, loaded["seconds"], False, [], [],
                  loaded["executed"])
        rows.append(row)
        if settings.eager and _baseline(row) not in eager:
            usual = f"{bundle.contract.variant}/PyTorch eager"
            taken = any(other.name == usual for other in eager.values())
            try:
                eager[_baseline(row)] = _start_eager(
                    f"PyTorch eager beside {name}" if taken else usual, row, settings, stack)
            except (CheckpointError, MissingError) as error:
                if settings.checkpoint and isinstance(error, CheckpointError):
                    raise
                notes.append(f"no PyTorch beside {bundle.contract.variant}: {error}")
    return rows, eager


def _start_eager(name: str, row: Row, settings: Settings, stack: ExitStack) -> Row:
    process = stack.enter_context(Process(name))
    loaded = process.ask("load_eager", bundle=str(row.bundle.path), checkpoint=settings.checkpoint,
                         threads=row.threads)
    return Row(name, row.bundle, process, row.threads, 1, loaded["seconds"], True, [], [])


def _baseline(row: Row) -> Baseline:
    contract = row.bundle.contract
    return contract.variant, contract.checkpoint.sha256, row.threads


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


def _take_turns(rows: Sequence[Row], settings: Settings, advance: Callable[[], None]) -> None:
    for turn in range(TURNS + PAUSED_TURNS):
        for row in rows:
            paused = turn >= TURNS
            steps = min(settings.steps, PAUSED_STEPS) if paused else settings.steps
            found = row.process.ask("run", steps=steps, seconds=TURN_SECONDS,
                                    pause=settings.pause if paused else 0)
            (row.paused if paused else row.burst).extend(found["seconds"])
            advance()


def _entry(row: Row, settings: Settings, notes: list[str]) -> dict[str, Any]:
    """What was found about one bundle, or about PyTorch with its weights."""
    contract, variant = row.bundle.contract, row.bundle.variant
    burst, paused = _latency(row.burst), _latency(row.paused)
    paper = PAPER.get(contract.variant)
    if row.is_eager:
        facts: dict[str, Any] = {"variant": contract.variant, "streams": 1}
        memory: dict[str, Any] = {
            "weights": None, "state": FLOAT * DEPTH * variant.cache_tokens * variant.width}
    else:
        facts = {"bundle": str(row.bundle.path), "bundle_sha256": row.bundle.sha256,
                 "variant": contract.variant, "target": row.bundle.target.to_dict(),
                 "options": asdict(contract.options), "streams": row.streams,
                 "tokens": {"new": variant.new_tokens, "cached": variant.cache_tokens},
                 "checkpoint": asdict(contract.checkpoint),
                 "operations": row.bundle.operations, "executed": row.executed}
        memory = {"weights": row.bundle.graph_bytes, "state": state_bytes(contract)}
    memory["resident"] = row.process.ask("resident")["bytes"]
    memory["transient"] = _transient(row, settings, notes)
    return {"name": row.name, **facts, "threads": row.threads, "memory_bytes": memory,
            "load_seconds": row.load_seconds, "burst": burst, "paused": paused,
            "real_time_factor": paused["median_ms"] / 1000 / contract.hop_seconds,
            "chunks_per_core_second": row.streams / (burst["median_ms"] / 1000 * row.threads),
            "paper": asdict(paper) if paper else None}


def _latency(seconds: Sequence[float]) -> dict[str, float]:
    median, p90, p99 = np.percentile(np.asarray(seconds) * 1000, (50, 90, 99))
    return {"median_ms": float(median), "p90_ms": float(p90), "p99_ms": float(p99), "steps": len(seconds)}


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
