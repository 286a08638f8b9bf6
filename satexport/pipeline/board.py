"""On the board: a build bundle's graphs to engines, proven there, the faster one that passes kept.

    ./build.sh                        `python3 -m satexport.pipeline.board .` from its own runtime.zip
    satexport trt --build BUNDLE      the same

Every graph of the bundle is built, runs the golden chunks, and is timed; what the engine computes in is
read back from the engine inspector. The fastest that passes its gates stays, with `engine.json`, which says
what it was built from and for; `parity.json`, `measure.json` and `layers-*.json` in `reports/` tell of all
of them. Needs numpy, the board's TensorRT and its CUDA runtime alone. What TensorRT and the device do lies
behind `Board`, so that everything else runs against a fake.
"""

from __future__ import annotations

import json
import math
import os
import shutil
import signal
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from satexport.backends.tensorrt.build import Board
from satexport.backends.tensorrt.inspect import DEFINITIONS, graph_gate, int8_gates, latencies, precisions
from satexport.backends.tensorrt.settings import TensorRtSettings
from satexport.backends.tensorrt.step import RECORD, TensorRtStep, engine_record
from satexport.bundle.folder import Bundle, open_bundle
from satexport.bundle.gates import MB, Gate, budget_gates, failures, figures, verdict
from satexport.bundle.target import Target
from satexport.errors import BundleError, GateError, MissingError, RunError, SatexportError, UsageError
from satexport.files import check_writable, write_json
from satexport.origin import origin
from satexport.parity.golden import golden_scores, judge_golden, proof_streams
from satexport.parity.protocols import parity_report
from satexport.process import open_standard_streams
from satexport.tagging.tagger import Tagger
from satexport.terminal import note, say

GRAPHS = ("int8", "fp16")     # names of the graphs without their ending, as far as a bundle has them
BUILDING = ".building-"       # begins the name of a folder of engines that are not proven yet
ROOM = 4                      # times the graph's size that a build needs beside its workspace, at least


@dataclass
class Built:
    """An engine and what was found about it."""

    precision: str
    path: Path
    gates: list[Gate]
    parity: dict[str, Any]
    measured: dict[str, Any]

    @property
    def passed(self) -> bool:
        return not failures(self.gates)

    @property
    def median_ms(self) -> float:
        return float(self.measured["burst"]["median_ms"]) if self.measured else math.inf


def build_bundle(path: Path, board: Board) -> list[Built]:
    """Build, prove and measure every graph of a bundle, keep the fastest engine that passes. Returns all of
    them, the kept one first. Raises `MissingError` where the board is not the one that the bundle is for,
    `RunError` where it lacks memory, `GateError` where no engine passes: what was there before then stays."""
    bundle = open_bundle(path)
    check_target(bundle.target, board)
    check_memory(bundle, board)
    check_writable(path)
    check_writable(bundle.reports)
    found: list[Built] = []
    with _engines(path) as folder:
        for graph in graphs(bundle):
            found.append(_tried(bundle, board, graph, folder / f"{graph.stem}.engine"))
        found.sort(key=lambda built: (not built.passed, built.median_ms))
        best = found[0]
        if best.passed:
            (path / RECORD).unlink(missing_ok=True)  # no moment has a record of another engine
            kept = path / best.path.name
            os.replace(best.path, kept)
            write_json(path / RECORD, engine_record(
                bundle, kept, "tensorrt", board.tensorrt, [board.compute_capability],
                best.measured["executed"]))
            for name in (f"{precision}.engine" for precision in GRAPHS):
                if name != kept.name:
                    (path / name).unlink(missing_ok=True)
        _report(bundle, board, found)
    if not best.passed:
        raise GateError(f"{path}: no engine passes. " + " ".join(
            f"{built.precision}: {failures(built.gates)}." for built in found))
    return found


def graphs(bundle: Bundle) -> list[Path]:
    """The graphs that engines are built of."""
    return [file for name in GRAPHS if (file := bundle.path / f"{name}.onnx").is_file()]


def check_target(target: Target, board: Board) -> None:
    """Raise `MissingError` where the TensorRT or the device is not what the target says."""
    if target.backend != "tensorrt":
        raise UsageError(f"a bundle for {target.backend} has no engines to build; expected one of "
                         "`satexport trt`.")
    wanted = TensorRtSettings.of(target)
    if wanted.module != "tensorrt":
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


def _tried(bundle: Bundle, board: Board, graph: Path, file: Path) -> Built:
    """An engine, or why there is none: the other one may still be built."""
    print(f"building {graph.name} ...", file=sys.stderr, flush=True)
    try:
        return _built(bundle, board, graph, file)
    except (RunError, BundleError) as error:
        return Built(graph.stem, file, [Gate("engine runs", "failed", None, 1, str(error))], {}, {})


def _built(bundle: Bundle, board: Board, graph: Path, file: Path) -> Built:
    start = time.perf_counter()
    name = f".timing-{board.tensorrt}-{board.compute_capability}.cache"
    board.build(graph, file, TensorRtSettings.of(bundle.target), bundle.path / name)
    seconds = time.perf_counter() - start
    board.load(file).close()  # libraries that are loaded once are no engine's
    before = board.free_bytes()
    engine = board.load(file)
    try:
        information = board.layers(engine)
        write_json(bundle.reports / f"layers-{graph.stem}.json", information)
        tagger = Tagger(bundle, TensorRtStep(engine, bundle.contract, bundle.initial_cache(),
                                             precisions(information)))
        audio, _ = bundle.golden()
        scores = golden_scores(proof_streams(tagger.step, tagger.contract), audio)
        gates, parts = judge_golden(bundle, scores)
        gates.append(graph_gate(bundle, scores, graph.stem))
        measured: dict[str, Any] = {
            "precision": graph.stem, "build_seconds": seconds, "engine_bytes": file.stat().st_size,
            **latencies(tagger), "device_bytes": max(0, before - board.free_bytes()),
            "executed": tagger.step.executed(), "cuda_graphs": getattr(engine, "captured", None)}
        gates += budget_gates(bundle.target.budgets,
                              figures(measured, {"device": measured["device_bytes"]}))
        gates += int8_gates(bundle, graph.stem, information)
        return Built(graph.stem, file, gates, parity_report(tagger, gates, parts), measured)
    finally:
        engine.close()  # the next engine is built in the memory of this one


def _report(bundle: Bundle, board: Board, found: Sequence[Built]) -> None:
    """Write reports/parity.json and measure.json, of all engines."""
    where = origin() | {"tensorrt": board.tensorrt, "device": board.description,
                        "compute_capability": board.compute_capability}
    best = verdict(found[0].gates)
    parity = {"kind": "parity", "verdict": best, "bundle_sha256": bundle.sha256,
              "engines": {built.precision: built.parity for built in found}, "origin": where}
    measure = {"kind": "measure", "verdict": best, "bundle_sha256": bundle.sha256,
               "kept": found[0].precision if found[0].passed else None,
               "engines": [built.measured | {"gates": [asdict(gate) for gate in built.gates]}
                           for built in found],
               "definitions": DEFINITIONS, "origin": where}
    write_json(bundle.reports / "parity.json", parity)
    write_json(bundle.reports / "measure.json", measure)


def print_built(found: Sequence[Built]) -> None:
    """Print the engines for a person; needs no package."""
    for built in found:
        if not built.measured:
            say(f"{built.precision}: {failures(built.gates)}")
            continue
        burst, paused = built.measured["burst"], built.measured["paused"]
        parts = next(iter(built.parity["differences"].values()))
        say(f"{built.precision}: step {burst['median_ms']:.2f} ms (p90 {burst['p90_ms']:.2f}, p99 "
            f"{burst['p99_ms']:.2f}), after pauses {paused['median_ms']:.2f}; device memory "
            f"{built.measured['device_bytes'] / MB:.0f} MB; largest score difference "
            f"{parts['largest']:.1e}; built in {built.measured['build_seconds']:.0f} s; layers "
            f"{json.dumps(built.measured['executed'].get('layers', {}))}")
        for gate in built.gates:
            say(f"  {gate.name}: {gate.status} ({gate.note})")


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
        found = build_bundle(Path(arguments[0]), this_board())
    except SatexportError as error:
        note(f"Error: {error.message}", *error.lines)
        return error.exit_code
    except KeyboardInterrupt:
        print("Interrupted; what was there before is untouched.", file=sys.stderr)
        return 130
    print_built(found)
    print(f"Kept: {found[0].precision}.")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
