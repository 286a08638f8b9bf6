"""Build the engines of a build bundle on the board, prove them, and keep the fastest that passes.

    ./build.sh                        `python3 -m satexport.pipeline.board .` from its own runtime.zip
    satexport trt --build BUNDLE      the same

For each graph of the bundle it builds an engine, runs the golden chunks, times steps and reads from
TensorRT's engine inspector which precisions the engine computes in. The fastest engine that passes its gates
is kept, with `engine.json`, which says what it was built from and for. `reports/` gets `build.json` and
`layers-*.json` about all engines; parity and measurements are the same records that `satexport parity` and
`satexport measure` write. Needs only numpy, the board's TensorRT and its CUDA runtime. All calls of TensorRT
and the device go through `Board` and `Engine`, so that tests can replace both by fakes.
"""

from __future__ import annotations

import math
import os
import shutil
import signal
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np

from satexport.backends.tensorrt.build import Board
from satexport.backends.tensorrt.inspect import int8_layers, precisions
from satexport.backends.tensorrt.settings import TensorRtSettings
from satexport.backends.tensorrt.step import PACKAGE, RECORD, TensorRtStep, engine_record
from satexport.bundle.contract import state_bytes
from satexport.bundle.folder import GRAPH_SCORES, Bundle, open_bundle
from satexport.bundle.gates import Gate, failures
from satexport.bundle.target import Target
from satexport.errors import BundleError, GateError, MissingError, RunError, SatexportError, UsageError
from satexport.files import check_writable, write_json
from satexport.measure.budgets import budget_gates, engine_figures
from satexport.measure.latency import StepLatency, StepTimer, make_noise, take_turns
from satexport.measure.records import MeasureEntry, MemoryBytes
from satexport.measure.schedule import PAUSE, STEPS, plan_turns
from satexport.memory import MB
from satexport.parity.golden import golden_outputs, judge_golden, proof_streams
from satexport.parity.records import report_parity
from satexport.process import open_standard_streams
from satexport.report.blocks import describe
from satexport.report.records import BoardFacts, BuildReport, EngineRecord
from satexport.report.serialize import to_json
from satexport.report.terminal import print_blocks
from satexport.step import FloatArray
from satexport.tagging.tagger import Tagger
from satexport.terminal import note

GRAPHS = ("int8", "fp16")     # names, without their ending, of the graphs that a bundle may have
BUILDING = ".building-"       # prefix of the folder for engines that are not proven yet
BUILD_REPORT = "build.json"   # in reports/
ENGINE = ".engine"
MEMORY_FACTOR = 4             # a build needs its workspace and at least this many times the graph's size


def build_bundle(path: Path, board: Board) -> BuildReport:
    """Build, prove and measure an engine for every graph of a bundle, and keep the fastest that passes.

    Raises `UsageError` if the bundle has no engines to build, `MissingError` if it is for another board,
    `RunError` if too little memory is free, `GateError` if no engine passes. An engine that was kept earlier
    then stays.
    """
    bundle = open_bundle(path)
    check_target(bundle.target, board)
    check_memory(bundle, board)
    check_writable(path)
    check_writable(bundle.reports)
    with _temporary_folder(path) as folder:
        engines = [_try_to_build(bundle, board, graph, folder / f"{graph.stem}{ENGINE}")
                   for graph in find_graphs(bundle)]
        report = BuildReport(bundle_sha256=bundle.sha256, engines=tuple(sorted(engines, key=_rank)),
                             settings={"steps": STEPS, "pause": PAUSE}, board=BoardFacts(
                                 tensorrt=board.tensorrt, device=board.description,
                                 compute_capability=board.compute_capability))
        if report.kept:
            _keep(bundle, board, report.engines[0], folder)
        write_json(bundle.reports / BUILD_REPORT, to_json(report))
    if not report.kept:
        raise GateError(f"{path}: no engine passes. " + " ".join(
            f"{engine.precision}: {failures(engine.gates)}." for engine in report.engines))
    return report


def find_graphs(bundle: Bundle) -> list[Path]:
    """Return the graphs of a bundle that engines are built from."""
    return [file for name in GRAPHS if (file := bundle.path / f"{name}.onnx").is_file()]


def check_target(target: Target, board: Board) -> None:
    """Check that a target's engines can be built on this board. Raises `MissingError` if its TensorRT is too
    old or the device is another one, `UsageError` if the target has no engines to build."""
    if target.backend != "tensorrt":
        raise UsageError(f"a bundle for {target.backend} has no engines to build; expected one that "
                         "`satexport trt` made.")
    settings = TensorRtSettings.of(target)
    if settings.module != PACKAGE:
        raise UsageError(f"{target.name} is for {settings.module}: `satexport trt --rtx` already makes the "
                         "engine, together with the bundle.")
    if _parse_version(board.tensorrt)[:2] < _parse_version(settings.version):
        raise MissingError(f"TensorRT {board.tensorrt} is here; {target.name} expects {settings.version} or "
                           f"newer, which JetPack {settings.jetpack} has. Update JetPack, or make the bundle "
                           "for a target of this version.")
    if board.compute_capability not in settings.compute_capability:
        raise MissingError(f"this is {board.description}, compute capability {board.compute_capability}; "
                           f"{target.name} is {' or '.join(settings.compute_capability)}. Make the bundle "
                           "for a target of this board.")


def check_memory(bundle: Bundle, board: Board) -> None:
    """Raise `RunError` if too little memory is free for a build."""
    settings = TensorRtSettings.of(bundle.target)
    largest = max(file.stat().st_size for file in find_graphs(bundle))
    needed = int(settings.workspace_mb * MB) + MEMORY_FACTOR * largest
    if (free := board.free_bytes()) < needed:
        raise RunError(f"{free / MB:.0f} MB of memory are free, a build needs {needed / MB:.0f}: end other "
                       "programs, or make the bundle with a smaller workspace_mb.")


@contextmanager
def _temporary_folder(path: Path) -> Iterator[Path]:
    """Give a folder inside the bundle for engines that are not proven yet, and remove it at the end."""
    for left in path.glob(f"{BUILDING}*"):  # from a run that was killed
        shutil.rmtree(left, ignore_errors=True)
    folder = Path(tempfile.mkdtemp(prefix=BUILDING, dir=path))
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _try_to_build(bundle: Bundle, board: Board, graph: Path, file: Path) -> EngineRecord:
    """Build an engine. If that fails, return a record with the reason, so that the next graph is still
    tried."""
    print(f"building {graph.name} ...", file=sys.stderr, flush=True)
    try:
        return _build(bundle, board, graph, file)
    except (RunError, BundleError) as error:
        gate = Gate(name="engine runs", status="failed", value=None, limit=1, note=str(error))
        return EngineRecord(precision=graph.stem, gates=(gate,), parity=None, measure=None)


def _build(bundle: Bundle, board: Board, graph: Path, file: Path) -> EngineRecord:
    """Build the engine of a graph, load it, prove and measure it."""
    start = time.perf_counter()
    name = f".timing-{board.tensorrt}-{board.compute_capability}.cache"
    board.build(graph, file, TensorRtSettings.of(bundle.target), bundle.path / name)
    seconds = time.perf_counter() - start
    board.load(file).close()  # loads the libraries, whose memory must not count as the engine's
    before = board.free_bytes()
    engine = board.load(file)
    try:
        layers = engine.layers()
        write_json(bundle.reports / f"layers-{graph.stem}.json", layers)
        tagger = Tagger(bundle, TensorRtStep(engine, bundle.contract, bundle.initial_cache(),
                                             precisions(layers)))
        audio, _ = bundle.golden()
        outputs = golden_outputs(proof_streams(tagger.step, tagger.contract), audio)
        timer = StepTimer(tagger.step, make_noise(*bundle.contract.input.shape))
        (latency,) = take_turns([timer.run_turn], plan_turns())
        memory = MemoryBytes(weights=file.stat().st_size, state=state_bytes(bundle.contract), transient=None,
                             resident=None, device=max(0, before - board.free_bytes()))
        budgets = budget_gates(bundle.target.budgets, engine_figures(latency, memory))
        entry = replace(_entry(tagger, file, latency, memory), build_seconds=seconds, gates=budgets,
                        cuda_graphs=engine.captured)
        result = judge_golden(bundle, outputs)
        result = replace(result, gates=(*result.gates, graph_gate(bundle, outputs.scores, graph.stem)))
        return EngineRecord(precision=graph.stem, gates=(*result.gates, *budgets, *int8_gates(
            bundle, graph.stem, layers)), parity=report_parity(tagger, result), measure=entry)
    finally:
        engine.close()  # building the next engine needs its memory


def _entry(tagger: Tagger, file: Path, latency: StepLatency, memory: MemoryBytes) -> MeasureEntry:
    """Return the entry of an engine, without its budgets."""
    bundle, contract = tagger.bundle, tagger.contract
    return MeasureEntry(
        name=f"{contract.variant}/{file.name}", variant=contract.variant, streams=contract.options.streams,
        threads=None, streaming=contract.streaming, hop_seconds=contract.hop_seconds, latency=latency,
        memory_bytes=memory, load_seconds=None, paper=None, precision=file.stem, bundle=str(bundle.path),
        bundle_sha256=bundle.sha256, target=bundle.target.to_dict(), options=asdict(contract.options),
        tokens=contract.tokens, checkpoint=asdict(contract.checkpoint), operations=bundle.operations,
        executed=tagger.step.executed())


def graph_gate(bundle: Bundle, scores: FloatArray, precision: str) -> Gate:
    """Judge whether the engine computes the same as its graph: compare its scores [N, chunks, classes] of the
    golden chunks with those that ONNX Runtime computed on the workstation."""
    expected = bundle.arrays(GRAPH_SCORES, [precision])[0]
    limit = TensorRtSettings.of(bundle.target).max_graph_difference
    gap = float(np.abs(scores - expected).max())
    return Gate(name="largest score difference from its graph", status="passed" if gap <= limit else "failed",
                value=gap, limit=limit, note=f"{gap:.1e}, at most {limit:g}")


def int8_gates(bundle: Bundle, precision: str, information: Mapping[str, Any]) -> tuple[Gate, ...]:
    """Judge whether the matrix products take int8 inputs. TensorRT may merge products of the same input, so
    half of them is enough. Skipped if too few are known and opaque fused layers may hide more. No gate for an
    engine without int8."""
    if precision != "int8":
        return ()
    layers, limit = int8_layers(information), bundle.int8_layers() // 2
    status = "passed" if layers.known >= limit else "skipped" if layers.may_be_more else "failed"
    why = "; others may be in fused layers that TensorRT does not describe" if status == "skipped" else ""
    return (Gate(name="int8 is delivered", status=status, value=layers.known, limit=limit,
                 note=f"{layers.known} layers take int8, at least {limit}{why}"),)


def _rank(engine: EngineRecord) -> tuple[bool, float]:
    """Return the sort key of an engine: engines that pass come first, then the faster."""
    return not engine.passed, engine.measure.latency.burst.median_ms if engine.measure else math.inf


def _keep(bundle: Bundle, board: Board, engine: EngineRecord, folder: Path) -> None:
    """Move an engine from a folder into the bundle, in place of the one that was kept before."""
    assert engine.measure
    (bundle.path / RECORD).unlink(missing_ok=True)  # the record must never describe another engine
    kept = bundle.path / f"{engine.precision}{ENGINE}"
    os.replace(folder / kept.name, kept)
    write_json(bundle.path / RECORD, engine_record(
        bundle, kept, PACKAGE, board.tensorrt, [board.compute_capability], engine.measure.executed or {}))
    for name in (f"{precision}{ENGINE}" for precision in GRAPHS):
        if name != kept.name:
            (bundle.path / name).unlink(missing_ok=True)


def _parse_version(version: str) -> tuple[int, ...]:
    return tuple(int(part) for part in version.split(".")[:3] if part.isdigit())


def main(arguments: Sequence[str]) -> int:
    """Run `python3 -m satexport.pipeline.board BUNDLE` and return its exit code."""
    from satexport.backends.tensorrt.build import this_board

    open_standard_streams()
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # so that unfinished engines are removed
    try:
        if len(arguments) != 1:
            raise UsageError(f"found the arguments {list(arguments)}; expected only the bundle's folder.")
        report = build_bundle(Path(arguments[0]), this_board())
    except SatexportError as error:
        note(f"Error: {error.message}", *error.lines)
        return error.exit_code
    except KeyboardInterrupt:
        print("Interrupted; existing files are unchanged.", file=sys.stderr)
        return 130
    print_blocks(describe(report))
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
