"""On the board: a build bundle's graphs to engines, proven there, the faster one that passes kept.

    ./build.sh                        `python3 -m satexport.pipeline.board .` from its own runtime.zip
    satexport trt --build BUNDLE      the same

Every graph of the bundle is built, runs the golden chunks, and is timed; what the engine computes in is
read back from the engine inspector. The fastest that passes its gates stays, with `engine.json`, which says
what it was built from and for. In `reports/`, `build.json` and `layers-*.json` tell of all of them: parity
and figures are the records that `satexport parity` and `satexport measure` write, too. Needs numpy, the
board's TensorRT and its CUDA runtime alone. What TensorRT and the device do lies behind `Board` and
`Engine`, so that everything else runs against fakes.
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
from satexport.parity.golden import golden_scores, judge_golden, proof_streams
from satexport.parity.records import report_parity
from satexport.process import open_standard_streams
from satexport.report.blocks import describe
from satexport.report.records import BoardFacts, BuildReport, EngineRecord
from satexport.report.serialize import to_json
from satexport.report.terminal import print_blocks
from satexport.step import FloatArray
from satexport.tagging.tagger import Tagger
from satexport.terminal import note

GRAPHS = ("int8", "fp16")     # names of the graphs without their ending, as far as a bundle has them
BUILDING = ".building-"       # begins the name of a folder of engines that are not proven yet
BUILD_REPORT = "build.json"   # in reports/
ENGINE = ".engine"
ROOM = 4                      # times the graph's size that a build needs beside its workspace, at least


def build_bundle(path: Path, board: Board) -> BuildReport:
    """Build, prove and measure every graph of a bundle, keep the fastest engine that passes. Raises
    `MissingError` if the board is not the one that the bundle is for, `RunError` if it lacks memory,
    `GateError` if no engine passes: what was there before then stays."""
    bundle = open_bundle(path)
    check_target(bundle.target, board)
    check_memory(bundle, board)
    check_writable(path)
    check_writable(bundle.reports)
    with _engines(path) as folder:
        engines = [_try_to_build(bundle, board, graph, folder / f"{graph.stem}{ENGINE}")
                   for graph in graphs(bundle)]
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


def graphs(bundle: Bundle) -> list[Path]:
    """The graphs that engines are built of."""
    return [file for name in GRAPHS if (file := bundle.path / f"{name}.onnx").is_file()]


def check_target(target: Target, board: Board) -> None:
    """Raise `MissingError` where the TensorRT or the device is not what the target says."""
    if target.backend != "tensorrt":
        raise UsageError(f"a bundle for {target.backend} has no engines to build; expected one of "
                         "`satexport trt`.")
    wanted = TensorRtSettings.of(target)
    if wanted.module != PACKAGE:
        raise UsageError(f"{target.name} is for {wanted.module}, whose engine is made with the bundle, by "
                         "`satexport trt --rtx`.")
    if _numbers(board.tensorrt)[:2] < _numbers(wanted.version):
        raise MissingError(f"TensorRT {board.tensorrt} is here; {target.name} expects {wanted.version} or "
                           f"newer, which JetPack {wanted.jetpack} has. Update JetPack, or make the bundle "
                           "for a target with the one that is here.")
    if board.compute_capability not in wanted.compute_capability:
        raise MissingError(f"this is {board.description}, compute capability {board.compute_capability}; "
                           f"{target.name} is {' or '.join(wanted.compute_capability)}. Make the bundle for "
                           "a target of this board.")


def check_memory(bundle: Bundle, board: Board) -> None:
    """Raise `RunError` where too little memory is free for a build."""
    wanted = TensorRtSettings.of(bundle.target)
    needed = int(wanted.workspace_mb * MB) + ROOM * max(file.stat().st_size for file in graphs(bundle))
    if (free := board.free_bytes()) < needed:
        raise RunError(f"{free / MB:.0f} MB of memory are free, a build needs {needed / MB:.0f}: end what "
                       "else runs, or make the bundle with a smaller workspace_mb.")


@contextmanager
def _engines(path: Path) -> Iterator[Path]:
    """A folder beside the bundle's files for engines that are not proven yet; it vanishes."""
    for left in path.glob(f"{BUILDING}*"):  # by one that was killed
        shutil.rmtree(left, ignore_errors=True)
    folder = Path(tempfile.mkdtemp(prefix=BUILDING, dir=path))
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _try_to_build(bundle: Bundle, board: Board, graph: Path, file: Path) -> EngineRecord:
    """An engine, or why there is none: the other one may still be built."""
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
    board.load(file).close()  # libraries that are loaded once are no engine's
    before = board.free_bytes()
    engine = board.load(file)
    try:
        layers = engine.layers()
        write_json(bundle.reports / f"layers-{graph.stem}.json", layers)
        tagger = Tagger(bundle, TensorRtStep(engine, bundle.contract, bundle.initial_cache(),
                                             precisions(layers)))
        audio, _ = bundle.golden()
        scores = golden_scores(proof_streams(tagger.step, tagger.contract), audio)
        timer = StepTimer(tagger.step, make_noise(*bundle.contract.input.shape))
        (latency,) = take_turns([timer.run_turn], plan_turns())
        memory = MemoryBytes(weights=file.stat().st_size, state=state_bytes(bundle.contract), transient=None,
                             resident=None, device=max(0, before - board.free_bytes()))
        budgets = budget_gates(bundle.target.budgets, engine_figures(latency, memory))
        entry = replace(_entry(tagger, file, latency, memory), build_seconds=seconds, gates=budgets,
                        cuda_graphs=engine.captured)
        result = judge_golden(bundle, scores)
        judged = *result.gates, graph_gate(bundle, scores, graph.stem)
        result = replace(result, gates=judged)
        return EngineRecord(precision=graph.stem, gates=(*judged, *budgets, *int8_gates(
            bundle, graph.stem, layers)), parity=report_parity(tagger, result), measure=entry)
    finally:
        engine.close()  # the next engine is built in the memory of this one


def _entry(tagger: Tagger, file: Path, latency: StepLatency, memory: MemoryBytes) -> MeasureEntry:
    """What was measured of an engine, beside its budgets."""
    bundle, contract = tagger.bundle, tagger.contract
    return MeasureEntry(
        name=f"{contract.variant}/{file.name}", variant=contract.variant, streams=contract.options.streams,
        threads=None, hop_seconds=contract.hop_seconds, latency=latency, memory_bytes=memory,
        load_seconds=None, paper=None, precision=file.stem, bundle=str(bundle.path),
        bundle_sha256=bundle.sha256, target=bundle.target.to_dict(), options=asdict(contract.options),
        tokens=contract.tokens, checkpoint=asdict(contract.checkpoint), operations=bundle.operations,
        executed=tagger.step.executed())


def graph_gate(bundle: Bundle, scores: FloatArray, precision: str) -> Gate:
    """Does the engine compute what its graph says, as ONNX Runtime computed it on the workstation? Scores
    [N, chunks, classes] of the golden chunks."""
    expected = bundle.arrays(GRAPH_SCORES, [precision])[0]
    limit = TensorRtSettings.of(bundle.target).max_graph_difference
    gap = float(np.abs(scores - expected).max())
    return Gate(name="largest score difference from its graph", status="passed" if gap <= limit else "failed",
                value=gap, limit=limit, note=f"{gap:.1e}, at most {limit:g}")


def int8_gates(bundle: Bundle, precision: str, information: Mapping[str, Any]) -> tuple[Gate, ...]:
    """Do the products take int8? TensorRT may merge those of one input, so half of them is enough; if it
    fused more than it shows, nobody can tell. No gate for an engine without int8."""
    if precision != "int8":
        return ()
    layers, limit = int8_layers(information), bundle.int8_layers() // 2
    status = "passed" if layers.known >= limit else "skipped" if layers.may_be_more else "failed"
    why = "; others are fused, and TensorRT does not look into them" if status == "skipped" else ""
    return (Gate(name="int8 is delivered", status=status, value=layers.known, limit=limit,
                 note=f"{layers.known} layers take int8, at least {limit}{why}"),)


def _rank(engine: EngineRecord) -> tuple[bool, float]:
    """Those that pass first, the faster first."""
    return not engine.passed, engine.measure.latency.burst.median_ms if engine.measure else math.inf


def _keep(bundle: Bundle, board: Board, engine: EngineRecord, folder: Path) -> None:
    """Put an engine out of a folder in the place of the one that was kept before."""
    assert engine.measure
    (bundle.path / RECORD).unlink(missing_ok=True)  # no moment has a record of another engine
    kept = bundle.path / f"{engine.precision}{ENGINE}"
    os.replace(folder / kept.name, kept)
    write_json(bundle.path / RECORD, engine_record(
        bundle, kept, PACKAGE, board.tensorrt, [board.compute_capability], engine.measure.executed or {}))
    for name in (f"{precision}{ENGINE}" for precision in GRAPHS):
        if name != kept.name:
            (bundle.path / name).unlink(missing_ok=True)


def _numbers(version: str) -> tuple[int, ...]:
    return tuple(int(part) for part in version.split(".")[:3] if part.isdigit())


def main(arguments: Sequence[str]) -> int:
    """`python3 -m satexport.pipeline.board BUNDLE`: the exit code."""
    from satexport.backends.tensorrt.build import this_board

    open_standard_streams()
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # so that unfinished engines vanish
    try:
        if len(arguments) != 1:
            raise UsageError(f"expected the bundle's folder alone, found {list(arguments)}.")
        report = build_bundle(Path(arguments[0]), this_board())
    except SatexportError as error:
        note(f"Error: {error.message}", *error.lines)
        return error.exit_code
    except KeyboardInterrupt:
        print("Interrupted; what was there before is untouched.", file=sys.stderr)
        return 130
    print_blocks(describe(report))
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
