"""What happens on the board, with ONNX Runtime in the place of TensorRT."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import zipfile
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, ClassVar

import pytest

from satexport.backends.tensorrt import engine as tensorrt_engine
from satexport.backends.tensorrt import inspect as engine_gates
from satexport.backends.tensorrt.build import run_trtexec, trtexec_command
from satexport.backends.tensorrt.engine import Engine
from satexport.backends.tensorrt.inspect import precisions
from satexport.backends.tensorrt.settings import TensorRtSettings
from satexport.backends.tensorrt.write import SCRIPT
from satexport.bundle.folder import open_bundle
from satexport.bundle.target import Budgets
from satexport.errors import BundleError, GateError, MissingError, RunError, SatexportError
from satexport.files import sha256_of
from satexport.pipeline.board import build_bundle
from satexport.pipeline.build import compile_bundle
from satexport.pipeline.plan import BuildOptions
from satexport.targets import find_target
from tests.backends.tensorrt.test_step import FakeEngine
from tests.backends.test_backends import SMALL
from tests.bundle.test_folder import content, copy_of, manifest_of, reseal

ORIN = find_target("jetson-orin-nano")


def layer(kind: str, reads: str, gives: str, key: str = "Format/Datatype") -> dict[str, Any]:
    """A layer as the engine inspector describes it."""
    return {"Name": "a", "LayerType": kind, "Inputs": [{key: reads}], "Outputs": [{key: gives}]}


LAYERS = {"int8": {"Layers": [layer("Quantize", "Half", "Int8"),
                              *[layer("gemm", "Int8 NC/4HW4", "Half")] * 60]},
          "fp16": {"Layers": [layer("gemm", "Half", "Half NC/8HW8")]}}


class Clock:
    """What measures here, in the place of the module `time`: a step takes as long as its engine says,
    however fast this machine is."""

    def __init__(self) -> None:
        self.now = 0.0

    def perf_counter(self) -> float:
        return self.now

    def sleep(self, seconds: float) -> None:
        self.now += seconds


CLOCK = Clock()


class Timed(FakeEngine):
    """An engine whose step takes 10 ms."""

    def download(self, array: Any, address: int) -> None:
        super().download(array, address)
        CLOCK.sleep(0.01)


class Slow(Timed):
    """An engine that takes its time."""

    def download(self, array: Any, address: int) -> None:
        super().download(array, address)
        CLOCK.sleep(0.1)


class FakeBoard:
    """A board whose engines are the graphs themselves. The `slow` one takes its time, the `broken` one
    gives other scores, the one that `fails` is not built."""

    tensorrt, compute_capability, description = "10.3.0.26", "8.7", "a fake Orin"

    def __init__(self) -> None:
        self.free, self.built, self.layers_of = 4_000_000_000, list[str](), dict(LAYERS)
        self.slow, self.fails, self.broken, self.forgets = "int8", "", "", ""
        self._loaded, self.asked = "", 0

    def free_bytes(self) -> int:
        self.asked += 1
        return self.free - 50_000_000 * (self.asked > 1 and self.asked % 2 == 1)

    def build(self, graph: Path, engine: Path, wanted: TensorRtSettings, timing_cache: Path) -> None:
        if graph.stem == self.fails:
            raise RunError(f"TensorRT builds no engine of {graph.name}")
        self.built.append(graph.stem)
        shutil.copy(graph, engine)

    def load(self, engine: Path) -> Engine:
        self._loaded = engine.stem
        kind = {self.slow: Slow, self.broken: Wrong, self.forgets: Forgetful}.get(engine.stem, Timed)
        return kind(engine.read_bytes())

    def layers(self, engine: Engine) -> Mapping[str, Any]:
        return self.layers_of[self._loaded]


class Forgetful(Timed):
    """An engine whose every other step reads the caches of silence."""

    first: ClassVar[dict[int, Any]] = {}  # what was uploaded last to each address

    def upload(self, address: int, array: Any) -> None:
        self.first[address] = array.copy()
        super().upload(address, array)

    def free(self, address: int) -> None:
        self.first.pop(address, None)  # another tensor may lie there next
        super().free(address)

    def close(self) -> None:
        self.first.clear()
        super().close()

    def prepare(self, addresses: Mapping[str, int]) -> Any:
        launch, old = super().prepare(addresses), [at for name, at in addresses.items() if "cache_in" in name]

        def forgetting() -> None:
            for address in set(old) & set(self.first):
                FakeEngine.upload(self, address, self.first[address])
            launch()

        return forgetting


class Wrong(Timed):
    """An engine whose scores are others."""

    def download(self, array: Any, address: int) -> None:
        super().download(array, address)
        array[:] = 1 - array


@pytest.fixture(scope="module")
def shipped(tiny: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A build bundle as it comes to the board."""
    folder = tmp_path_factory.mktemp("shipped")
    target = replace(ORIN, budgets=Budgets())  # how fast this machine is must decide nothing
    return compile_bundle(open_bundle(tiny), target, folder, BuildOptions(calibration=SMALL)).path


@pytest.fixture
def bundle(shipped: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    for name, value in (("WARM_UP", 1), ("STEPS", 4), ("PAUSED", 2), ("PAUSE", 0.01)):
        monkeypatch.setattr(engine_gates, name, value)
    monkeypatch.setattr(engine_gates, "time", CLOCK)
    return copy_of(shipped, tmp_path)


def reports(bundle: Path) -> tuple[dict[str, Any], dict[str, Any], dict[str, Any]]:
    found = [json.loads((bundle / f"{name}.json").read_bytes())
             for name in ("reports/parity", "reports/measure", "engine")]
    return found[0], found[1], found[2]


def test_both_engines_are_built_and_proven_and_the_faster_is_kept(bundle: Path) -> None:
    board = FakeBoard()
    found = build_bundle(bundle, board)
    assert board.built == ["int8", "fp16"]
    assert [built.precision for built in found] == ["fp16", "int8"]
    parity, measure, record = reports(bundle)
    assert (parity["verdict"], measure["kept"]) == ("passed", "fp16")
    for precision, largest in (("int8", 0.05), ("fp16", 5e-3)):
        report = parity["engines"][precision]
        assert 1e-5 < report["differences"]["golden chunks"]["largest"] < largest
    assert [engine["burst"]["median_ms"] for engine in measure["engines"]] == pytest.approx([10, 110])
    for engine in measure["engines"]:
        assert engine["burst"]["median_ms"] <= engine["burst"]["p90_ms"] <= engine["burst"]["p99_ms"]
        assert engine["device_bytes"] == 50_000_000  # of the second time that it is loaded
    assert measure["origin"]["device"] == "a fake Orin"
    assert [engine["executed"] for engine in measure["engines"]] == [
        {"layers": {"f16": 1}}, {"layers": {"i8": 1, "f16": 60}}]
    assert json.loads((bundle / "reports" / "layers-int8.json").read_bytes()) == LAYERS["int8"]
    assert not (bundle / "int8.engine").exists()
    assert record | {"executed": {}} == {
        "engine": "fp16.engine", "sha256": sha256_of(bundle / "fp16.engine"),
        "graph_sha256": sha256_of(bundle / "fp16.onnx"), "bundle_sha256": open_bundle(bundle).sha256,
        "module": "tensorrt", "tensorrt": "10.3.0.26", "compute_capability": ["8.7"], "precision": "fp16",
        "executed": {}}
    assert not list(bundle.glob(".*"))


def test_precisions_are_told_by_whatever_names_tensorrt_gives_them() -> None:
    assert precisions({"Layers": ["only", "names"]}) == {}
    assert precisions({"Layers": [layer("a", "Float", "BFloat16", "DataType"), layer("b", "Float", "Float16"),
                                  layer("Myelin", "Half", "Half")]}) == {
        "layers": {"bf16": 1, "f16": 1, "fused": 1}}


@pytest.mark.parametrize(("layers", "status"), [
    ({"Layers": [layer("Quantize", "Half", "Int8"), *[layer("gemm", "Half", "Half")] * 60]}, "failed"),
    ({"Layers": [*[layer("gemm", "Int8", "Half")] * 30, *[layer("gemm", "Half", "Half")] * 30]}, "passed"),
    ({"Layers": [layer("Myelin", "Half", "Half")]}, "skipped"), ({}, "skipped")])
def test_int8_that_is_not_delivered_fails_and_what_cannot_be_seen_is_skipped(
        bundle: Path, layers: dict[str, Any], status: str) -> None:
    board = FakeBoard()
    board.slow, board.layers_of = "fp16", LAYERS | {"int8": layers}
    found = build_bundle(bundle, board)
    int8 = next(built for built in found if built.precision == "int8")
    assert [gate.status for gate in int8.gates if gate.name == "int8 is delivered"] == [status]
    assert found[0].precision == ("fp16" if status == "failed" else "int8")
    kept = "skipped" if status == "skipped" else "passed"
    assert [report["verdict"] for report in reports(bundle)[:2]] == [kept, kept]
    assert found[0].parity["verdict"] == kept


def test_where_one_engine_cannot_be_built_the_other_is_kept(bundle: Path) -> None:
    board = FakeBoard()
    board.fails = "fp16"
    found = build_bundle(bundle, board)
    _, measure, record = reports(bundle)
    assert (found[0].precision, record["precision"], measure["kept"]) == ("int8", "int8", "int8")
    (gate,) = found[1].gates
    assert (gate.status, gate.note) == ("failed", "TensorRT builds no engine of fp16.onnx")


def test_an_engine_that_forgets_its_cache_differs_from_its_graph(bundle: Path) -> None:
    board = FakeBoard()
    board.forgets = "int8"
    found = build_bundle(bundle, board)
    (gate,) = [gate for built in found if built.precision == "int8" for gate in built.gates
               if gate.name == "largest score difference from its graph"]
    assert gate.status == "failed"
    (other,) = [its for its in found[0].gates if its.name == gate.name]
    assert other.status == "passed"
    assert other.value is not None
    assert other.value < 1e-3


def test_a_faster_engine_that_is_wrong_is_not_kept(bundle: Path) -> None:
    board = FakeBoard()
    board.broken = "fp16"
    found = build_bundle(bundle, board)
    parity, measure, record = reports(bundle)
    assert (found[0].precision, record["engine"], measure["kept"]) == ("int8", "int8.engine", "int8")
    assert parity["engines"]["fp16"]["verdict"] == "failed"


def test_where_no_engine_passes_the_reports_say_why_and_the_old_engine_stays(bundle: Path) -> None:
    (bundle / ".building-old").mkdir()  # a killed build left it
    (bundle / ".building-old" / "int8.engine").write_bytes(b"half")
    build_bundle(bundle, FakeBoard())
    assert not (bundle / ".building-old").exists()
    before = (bundle / "engine.json").read_bytes()
    assert json.loads(before)["bundle_sha256"] == open_bundle(bundle).sha256
    board = FakeBoard()
    board.free = 10_000_000_000
    _set_budgets(bundle, Budgets(step_ms=1e-6, device_mb=1))
    (bundle / ".timing-10.3.0.26-8.7.cache.lock").touch()  # trtexec leaves it
    with pytest.raises(GateError, match=r"no engine passes.*step_ms failed.*device_mb failed"):
        build_bundle(bundle, board)
    assert (bundle / "engine.json").read_bytes() == before
    assert reports(bundle)[1]["kept"] is None
    assert reports(bundle)[1]["verdict"] == "failed"


def _set_budgets(bundle: Path, budgets: Budgets) -> None:
    manifest = manifest_of(bundle)
    manifest["target"]["budgets"] = vars(budgets)
    (bundle / "bundle.json").write_text(json.dumps(manifest))
    reseal(bundle)


@pytest.mark.parametrize(("change", "error", "words"), [
    ({"tensorrt": "8.5.2"}, MissingError, "TensorRT 8.5.2 is here; jetson-orin-nano expects 10.3 or newer, "
                                          "which JetPack 6.2 has"),
    ({"compute_capability": "11.0"}, MissingError, "a fake Orin, compute capability 11.0; jetson-orin-nano is"
                                                   " 8.7"),
    ({"free": 10_000_000}, RunError, r"10 MB of memory are free, a build needs \d+")])
def test_a_board_that_cannot_build_is_told_what_it_lacks_and_nothing_changes(
        bundle: Path, change: dict[str, Any], error: type[SatexportError], words: str) -> None:
    board = FakeBoard()
    vars(board).update(change)
    before = content(bundle)
    with pytest.raises(error, match=words):
        build_bundle(bundle, board)
    assert content(bundle) == before
    assert not list(bundle.glob(".*"))


def test_a_bundle_that_was_changed_on_the_way_is_not_built(bundle: Path) -> None:
    graph = bundle / "int8.onnx"
    graph.write_bytes(graph.read_bytes()[:-1])
    with pytest.raises(BundleError, match=r"int8\.onnx"):
        build_bundle(bundle, FakeBoard())


def test_a_bundle_of_another_backend_has_nothing_to_build(tiny: Path) -> None:
    with pytest.raises(SatexportError, match="a bundle for onnxruntime has no engines to build"):
        build_bundle(tiny, FakeBoard())


# What this machine has, as far as it is not a call to TensorRT.

def test_trtexec_is_told_all_that_an_engine_needs() -> None:
    wanted = TensorRtSettings.of(ORIN)
    for version, strongly in (("10.3.0", True), ("10.16.1", True), ("11.4.1", False)):
        command = trtexec_command("trtexec", Path("a.onnx"), Path("a.engine"), wanted, version,
                                  Path("t.cache"))
        assert ("--stronglyTyped" in command) == strongly
        assert {"--onnx=a.onnx", "--saveEngine=a.engine", "--memPoolSize=workspace:1000M",
                "--noTF32", "--timingCacheFile=t.cache", "--profilingVerbosity=detailed",
                "--skipInference"} <= set(command)
        assert not {"--int8", "--fp16", "--best"} & set(command)


@pytest.mark.parametrize(("script", "words"), [
    ("echo '[E] no kernel'; exit 1", r"exit code 1: \[E\] no kernel"),
    ("exit 3", "it said no reason"), ("kill -9 $$", "was killed; the kernel does so where memory")])
def test_a_trtexec_that_fails_is_quoted(tmp_path: Path, script: str, words: str) -> None:
    program = tmp_path / "trtexec"
    program.write_text(f"#!/bin/sh\n{script}\n")
    program.chmod(0o755)
    with pytest.raises(RunError, match=words):
        run_trtexec([str(program)])


def test_trtexec_that_is_not_there_is_said(tmp_path: Path) -> None:
    with pytest.raises(RunError, match="cannot be run"):
        run_trtexec([str(tmp_path / "none")])


def test_a_tensorrt_that_does_not_load_is_not_called_missing(
        tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "tensorrt.py").write_text("raise ImportError('libnvdla_compiler.so: cannot open')")
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(MissingError, match=r"does not load: libnvdla_compiler\.so.*--runtime nvidia"):
        tensorrt_engine.import_tensorrt("tensorrt")


def test_the_build_script_finds_its_bundle_by_a_link_from_elsewhere(tmp_path: Path) -> None:
    bundle = tmp_path / "a bundle"
    bundle.mkdir()
    with zipfile.ZipFile(bundle / "runtime.zip", "w") as archive:
        archive.writestr("satexport/__init__.py", "")
        archive.writestr("satexport/pipeline/__init__.py", "")
        archive.writestr("satexport/pipeline/board.py", "import sys; print(sys.argv[1], sys.argv[2])")
    (bundle / "build.sh").write_text(SCRIPT)
    (bundle / "build.sh").chmod(0o755)
    (tmp_path / "bin").mkdir()
    (tmp_path / "bin" / "build").symlink_to(bundle / "build.sh")
    environment = {key: value for key, value in os.environ.items() if key != "PYTHONPATH"}
    for command in ([tmp_path / "bin" / "build"], ["sh", "bin/build"], [bundle / "build.sh"]):
        done = subprocess.run([*command, "x"], cwd=tmp_path, capture_output=True, text=True, check=False,
                              env=environment | {"PYTHON": sys.executable})
        assert (done.stdout, done.stderr) == (f"{bundle} x\n", "")
