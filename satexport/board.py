"""On the board: a build bundle's graphs to engines, proven there, the faster one that passes kept.

    ./build.sh                        in the bundle: `python3 -m satexport.board .` from its own runtime.zip
    satexport trt --build BUNDLE      the same

Every graph of the bundle is built, runs the golden chunks, and is timed; what the engine computes in is
read back from the engine inspector. The fastest that passes its gates stays, with `engine.json`, which says
what it was built from and for; `parity.json` and `measure.json` tell of all of them. Needs numpy, the board's
TensorRT and its CUDA runtime alone. What TensorRT and the device do lies behind `Board`, so that everything
else runs against a fake.
"""

from __future__ import annotations

import json
import os
import sys
import time
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from satexport.backends import Step
from satexport.backends.tensorrt import RECORD, TensorRtStep
from satexport.bundle import Bundle, open_bundle
from satexport.errors import GateError, MissingError, RunError, SatexportError, UsageError
from satexport.files import check_writable, sha256_of, write_json
from satexport.gates import Gate, failures, verdict
from satexport.parity import parity_report, run_golden
from satexport.report import origin
from satexport.stream import Tagger
from satexport.targets import Target, TensorRt
from satexport.tensorrt_engine import Engine

GRAPHS = ("int8", "fp16")     # names of the graphs without their ending, as far as a bundle has them
WARM_UP, STEPS, PAUSED = 20, 200, 20
PAUSE = 0.25                  # s
MB = 1e6                      # bytes
ROOM = 4                      # times the graph's size that a build needs beside its workspace, at least
DEFINITIONS = {
    "burst": f"{STEPS} single steps one after the other, audio in host memory to scores in host memory, "
             f"{WARM_UP} before them not counted",
    "paused": f"{PAUSED} single steps, each after {PAUSE} s",
    "device": "device memory that is free before the engine is loaded, minus that which is free when it has "
              "run; on a Jetson the memory is the host's, too",
    "layers": "what the engine inspector says of each layer's outputs; `fused` are layers that TensorRT made "
              "of many and does not look into. The network is strongly typed: precisions are the graph's",
}


class Board(Protocol):
    """TensorRT and the device it runs on."""

    tensorrt: str             # version, "10.3.0"
    compute_capability: str   # "8.7"
    description: str          # for people

    def free_bytes(self) -> int:
        """Device memory that is free."""

    def build(self, graph: Path, engine: Path, wanted: TensorRt) -> None:
        """Build an engine. Raises `RunError` where TensorRT does not."""

    def load(self, engine: Path) -> Engine:
        """An engine that can run."""

    def layers(self, engine: Engine) -> Mapping[str, Any]:
        """What the engine inspector says, its JSON."""


@dataclass
class Built:
    """An engine and what was found about it."""

    precision: str
    path: Path
    build_seconds: float
    gates: list[Gate]
    parity: dict[str, Any]
    measured: dict[str, Any]

    @property
    def passed(self) -> bool:
        return not failures(self.gates)

    @property
    def median_ms(self) -> float:
        return float(self.measured["burst"]["median_ms"])


def build_bundle(path: Path, board: Board) -> list[Built]:
    """Build, prove and measure every graph of a bundle, keep the fastest engine that passes; its record is
    written last. Returns all of them, the kept one first. Raises `MissingError` where the board is not the
    one that the bundle is for, `RunError` where a build fails, `GateError` where no engine passes."""
    bundle = open_bundle(path)
    check_target(bundle.target, board)
    check_memory(bundle, board)
    check_writable(path)
    found: list[Built] = []
    with _engines(path) as folder:
        for graph in graphs(bundle):
            found.append(_built(bundle, board, graph, folder / f"{graph.stem}.engine"))
        found.sort(key=lambda built: (not built.passed, built.median_ms))
        _report(bundle, board, found)
        best = found[0]
        if not best.passed:
            raise GateError(f"{path}: no engine passes. " + " ".join(
                f"{built.precision}: {failures(built.gates)}." for built in found))
        kept = path / best.path.name
        os.replace(best.path, kept)
        write_json(path / RECORD, _record(bundle, board, best, kept))
        for name in (f"{precision}.engine" for precision in GRAPHS):
            if name != kept.name:
                (path / name).unlink(missing_ok=True)
    return found


def graphs(bundle: Bundle) -> list[Path]:
    """The graphs that engines are built of."""
    return [file for name in GRAPHS if (file := bundle.path / f"{name}.onnx").is_file()]


def check_target(target: Target, board: Board) -> None:
    """Raise `MissingError` where the TensorRT or the device is not what the target says."""
    wanted = target.tensorrt
    if wanted is None:
        raise UsageError(f"a bundle for {target.backend} has no engines to build; expected one of "
                         "`satexport trt`.")
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
    wanted = bundle.target.tensorrt
    assert wanted
    needed = int(wanted.workspace_mb * MB) + ROOM * max(file.stat().st_size for file in graphs(bundle))
    if (free := board.free_bytes()) < needed:
        raise RunError(f"{free / MB:.0f} MB of memory are free, a build needs {needed / MB:.0f}: end what "
                       "else runs, add swap, or make the bundle with a smaller workspace_mb.")


@contextmanager
def _engines(path: Path) -> Iterator[Path]:
    """A folder beside the bundle's files for engines that are not proven yet; it vanishes."""
    import shutil
    import tempfile

    folder = Path(tempfile.mkdtemp(prefix=".building-", dir=path))
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _built(bundle: Bundle, board: Board, graph: Path, file: Path) -> Built:
    assert bundle.target.tensorrt
    print(f"building {graph.name} ...", flush=True)
    start = time.perf_counter()
    board.build(graph, file, bundle.target.tensorrt)
    seconds = time.perf_counter() - start
    before = board.free_bytes()
    engine = board.load(file)
    executed = precisions(board.layers(engine))
    step = TensorRtStep(engine, bundle.contract, bundle.initial_cache(), executed)
    tagger = Tagger(bundle, step)
    gates, parts = run_golden(tagger)
    measured: dict[str, Any] = {"precision": graph.stem, "build_seconds": seconds,
                                "engine_bytes": file.stat().st_size, **latencies(tagger)}
    measured["device_bytes"] = before - board.free_bytes()
    measured["executed"] = executed
    step.close()  # the next engine is built in the memory of this one
    gates = [*gates, *_gates(bundle, graph.stem, measured)]
    return Built(graph.stem, file, seconds, gates, parity_report(tagger, gates, parts), measured)


def latencies(tagger: Tagger) -> dict[str, dict[str, float]]:
    """A step in bursts and after pauses, ms."""
    contract = tagger.contract
    noise = 0.1 * np.random.default_rng(0).standard_normal(contract.input.shape).astype(np.float32)
    step: Step = tagger.step
    cache = step.initial_cache(contract.form.streams)
    result = {}
    for name, count, pause in (("burst", STEPS, 0.0), ("paused", PAUSED, PAUSE)):
        times = []
        for number in range(count + (0 if pause else WARM_UP)):
            time.sleep(pause)
            start = time.perf_counter()
            _, cache = step(noise, cache)
            if pause or number >= WARM_UP:
                times.append(1000 * (time.perf_counter() - start))
        median, p90, p99 = np.percentile(times, (50, 90, 99)).tolist()
        result[name] = {"median_ms": median, "p90_ms": p90, "p99_ms": p99, "steps": count}
    return result


def precisions(information: Mapping[str, Any]) -> dict[str, dict[str, int]]:
    """How many layers of an engine give which precision, of the inspector's JSON; {} where the engine was
    built without the details."""
    counts: Counter[str] = Counter()
    for layer in information.get("Layers", []):
        if not isinstance(layer, dict):
            return {}
        if str(layer.get("LayerType", "")).lower() in ("foreignnode", "myelin", "kgen"):
            counts["fused"] += 1
            continue
        formats = {str(out.get("Format/Datatype", out.get("Datatype", "")))
                   for out in layer.get("Outputs", [])}
        counts.update(_precision(text) for text in formats)
    return {"layers": dict(counts)} if counts else {}


def _precision(text: str) -> str:
    """The precision of a tensor's format, such as "Int8 NC/4HW4" or "Half"."""
    words = {"int8": "i8", "half": "f16", "fp16": "f16", "bf16": "bf16", "float": "f32", "fp32": "f32",
             "int32": "i32", "int64": "i64", "bool": "bool"}
    lowered = text.lower()
    return next((short for word, short in words.items() if word in lowered), lowered or "unknown")


def _gates(bundle: Bundle, precision: str, measured: Mapping[str, Any]) -> list[Gate]:
    """The budgets, and that int8 was delivered."""
    budgets, gates = bundle.target.budgets, []
    slowest = max(measured[kind]["p99_ms"] for kind in ("burst", "paused"))
    device = measured["device_bytes"] / MB
    for name, value, limit, unit in (("step_ms", slowest, budgets.step_ms, "ms"),
                                     ("resident_mb", device, budgets.resident_mb, "MB")):
        if limit is not None:
            gates.append(Gate(name, "passed" if value <= limit else "failed", value, limit,
                              f"{value:.1f} {unit}, at most {limit:g}"))
    layers = measured["executed"].get("layers", {})
    if precision == "int8":
        count = layers.get("i8", 0)
        status = "passed" if count else "skipped" if layers.get("fused") or not layers else "failed"
        fused = "; others are fused, and TensorRT does not look into them" if status == "skipped" else ""
        gates.append(Gate("int8 is delivered", status, count, 1, f"{count} layers give int8{fused}"))
    return gates


def _report(bundle: Bundle, board: Board, found: Sequence[Built]) -> None:
    """Write parity.json and measure.json, of all engines."""
    where = origin() | {"tensorrt": board.tensorrt, "device": board.description,
                        "compute_capability": board.compute_capability}
    parity = {"kind": "parity", "verdict": verdict(found[0].gates), "bundle_sha256": bundle.sha256,
              "engines": {built.precision: built.parity for built in found}, "origin": where}
    measure = {"kind": "measure", "verdict": verdict(found[0].gates), "bundle_sha256": bundle.sha256,
               "kept": found[0].precision if found[0].passed else None,
               "engines": [built.measured | {"gates": [asdict(gate) for gate in built.gates]}
                           for built in found],
               "definitions": DEFINITIONS, "origin": where}
    write_json(bundle.path / "parity.json", parity)
    write_json(bundle.path / "measure.json", measure)


def _record(bundle: Bundle, board: Board, best: Built, kept: Path) -> dict[str, Any]:
    """What engine.json says, which `satexport.load` checks before it runs the engine."""
    graph = bundle.path / f"{best.precision}.onnx"
    return {"engine": kept.name, "sha256": sha256_of(kept), "graph_sha256": sha256_of(graph),
            "bundle_sha256": bundle.sha256, "module": "tensorrt", "tensorrt": board.tensorrt,
            "compute_capability": [board.compute_capability], "precision": best.precision,
            "executed": best.measured["executed"]}


def print_built(found: Sequence[Built]) -> None:
    """Print the engines for a person; needs no package."""
    for built in found:
        burst, paused = built.measured["burst"], built.measured["paused"]
        parts = next(iter(built.parity["differences"].values()))
        print(f"{built.precision}: step {burst['median_ms']:.2f} ms (p90 {burst['p90_ms']:.2f}, p99 "
              f"{burst['p99_ms']:.2f}), after pauses {paused['median_ms']:.2f}; device memory "
              f"{built.measured['device_bytes'] / MB:.0f} MB; largest score difference "
              f"{parts['largest']:.1e}; built in {built.build_seconds:.0f} s; layers "
              f"{json.dumps(built.measured['executed'].get('layers', {}))}")
        for gate in built.gates:
            print(f"  {gate.name}: {gate.status} ({gate.note})")


def _numbers(version: str) -> tuple[int, ...]:
    return tuple(int(part) for part in version.split(".")[:3] if part.isdigit())


def main(arguments: Sequence[str]) -> int:
    """`python3 -m satexport.board BUNDLE`: the exit code."""
    from satexport.tensorrt_build import this_board

    try:
        found = build_bundle(Path(arguments[0] if arguments else "."), this_board())
    except SatexportError as error:
        print(f"Error: {error}", file=sys.stderr)
        return error.exit_code
    except KeyboardInterrupt:
        print("Interrupted; what was there before is untouched.", file=sys.stderr)
        return 130
    print_built(found)
    print(f"Kept: {found[0].precision}.")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
