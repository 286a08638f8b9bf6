"""Building engines on a board, with ONNX Runtime in place of TensorRT."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import zipfile
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from satexport.backends.tensorrt.write import SCRIPT
from satexport.bundle.folder import open_bundle
from satexport.bundle.target import Budgets
from satexport.errors import BundleError, GateError, MissingError, RunError, SatexportError
from satexport.files import sha256_of
from satexport.measure import latency, schedule
from satexport.pipeline.board import build_bundle, main
from satexport.pipeline.build import compile_bundle
from satexport.pipeline.plan import BuildOptions
from satexport.report.figures import definitions
from satexport.report.serialize import SCHEMA
from satexport.targets import find_target
from tests.backends.tensorrt.fake_engine import layer
from tests.bundle.copies import content, copy_of, manifest_of, reseal
from tests.commands.calls import call
from tests.pipeline.fake_board import CLOCK, LAYERS, FakeBoard
from tests.tiny import FEW, SAT_2S

ORIN = find_target("jetson-orin-nano")


@pytest.fixture(scope="module")
def shipped(tiny: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A build bundle as it is copied to the board."""
    folder = tmp_path_factory.mktemp("shipped")
    target = replace(ORIN, budgets=Budgets())  # the speed of this machine must decide nothing
    return compile_bundle(open_bundle(tiny), target, folder, BuildOptions(calibration=FEW)).path


@pytest.fixture
def bundle(shipped: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    for name, value in (("TURNS", 2), ("PAUSED_TURNS", 1), ("PAUSED_STEPS", 2), ("TURN_SECONDS", 0.02)):
        monkeypatch.setattr(schedule, name, value)
    monkeypatch.setattr(latency, "time", CLOCK)
    return copy_of(shipped, tmp_path)


def reports(bundle: Path) -> tuple[dict[str, Any], dict[str, Any]]:
    """Return the report on the build, and engine.json of the engine that is kept."""
    build, record = (json.loads((bundle / name).read_bytes())
                     for name in ("reports/build.json", "engine.json"))
    return build, record


def test_both_engines_are_built_and_proven_and_the_faster_is_kept(bundle: Path) -> None:
    board = FakeBoard()
    build_bundle(bundle, board)
    assert board.built == ["int8", "fp16"]
    report, record = reports(bundle)
    assert (report["verdict"], report["kept"]) == ("passed", "fp16")
    assert [engine["precision"] for engine in report["engines"]] == ["fp16", "int8"]
    for engine, largest in zip(report["engines"], (5e-3, 0.05), strict=True):
        assert 1e-5 < engine["parity"]["differences"]["golden chunks"]["largest"] < largest
    measured = [engine["measure"] for engine in report["engines"]]
    assert [entry["latency"]["burst"]["median_ms"] for entry in measured] == pytest.approx([10, 110])
    for entry in measured:
        burst = entry["latency"]["burst"]
        assert burst["median_ms"] <= burst["p90_ms"] <= burst["p99_ms"]
        assert entry["memory_bytes"]["device"] == 50_000_000  # of the second load of the engine
    assert report["board"]["device"] == "a fake Orin"
    assert [entry["executed"] for entry in measured] == [
        {"layers": {"f16": 1}}, {"layers": {"i8": 1, "f16": 60}}]
    assert json.loads((bundle / "reports" / "layers-int8.json").read_bytes()) == LAYERS["int8"]
    assert not (bundle / "int8.engine").exists()
    assert record | {"executed": {}} == {
        "engine": "fp16.engine", "sha256": sha256_of(bundle / "fp16.engine"),
        "graph_sha256": sha256_of(bundle / "fp16.onnx"), "bundle_sha256": open_bundle(bundle).sha256,
        "module": "tensorrt", "tensorrt": "10.3.0.26", "compute_capability": ["8.7"], "precision": "fp16",
        "executed": {}}
    assert not list(bundle.glob(".*"))


def test_an_engine_has_the_record_of_a_bundle_and_other_reports_are_kept(bundle: Path) -> None:
    for name in ("measure", "parity"):
        (bundle / "reports" / f"{name}.json").write_text("of `satexport measure` and `satexport parity`")
    build_bundle(bundle, FakeBoard())
    assert sorted(file.name for file in (bundle / "reports").iterdir()) == [
        "build.json", "layers-fp16.json", "layers-int8.json", "measure.json", "parity.json"]
    for name in ("measure", "parity"):
        assert (bundle / "reports" / f"{name}.json").read_text().startswith("of `satexport")
    report, _ = reports(bundle)
    entry, opened = report["engines"][0]["measure"], open_bundle(bundle)
    of_every_entry = {"name", "variant", "streaming", "streams", "threads", "hop_seconds", "memory_bytes",
                      "load_seconds", "latency", "figures", "paper"}
    of_a_bundle = {"bundle", "bundle_sha256", "target", "options", "tokens", "checkpoint", "operations",
                   "executed", "gates"}
    assert set(entry) == of_every_entry | of_a_bundle | {"precision", "build_seconds", "cuda_graphs"}
    assert (entry["bundle_sha256"], entry["memory_bytes"]["weights"]) == (
        opened.sha256, (bundle / "fp16.onnx").stat().st_size)  # the fake engine is the graph
    assert (report["kind"], report["schema"]) == ("build", SCHEMA)
    assert report["definitions"] == definitions("build")
    assert report["engines"][0]["parity"]["verdict"] == "passed"


def test_an_engine_over_a_window_is_proven_with_the_earlier_audio(
        bundle: Path, random_window: Path, tmp_path: Path) -> None:
    target = replace(ORIN, budgets=Budgets())
    window = compile_bundle(open_bundle(random_window), target, tmp_path, BuildOptions(calibration=FEW)).path
    build_bundle(window, FakeBoard())
    report, _ = reports(window)
    for engine in report["engines"]:
        assert engine["verdict"] == "passed"
        assert engine["parity"]["differences"]["golden chunks"]["chunks"] == 10
        assert engine["measure"]["streaming"] == "a window of the last 10 s every 1 s"
        assert engine["measure"]["memory_bytes"]["state"] == 9 * 16_000 * 4


def test_the_build_script_and_the_command_report_every_engine(
        bundle: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    board = FakeBoard()
    board.fails = "fp16"
    monkeypatch.setattr("satexport.backends.tensorrt.build.this_board", lambda: board)
    assert main([str(bundle)]) == 0
    text = capsys.readouterr().out
    rows = [[cell.strip() for cell in line.strip("│").split("│")] for line in text.splitlines()]
    assert ["step in a burst, ms", "110.00"] in rows
    assert ["device memory, MB", "50"] in rows
    assert "int8: Layers by compute precision: layers 1 in i8, 60 in f16." in text
    assert f"{SAT_2S} scores each chunk of 2 s, with a cache of those before." in text
    assert any(row[:3] == ["int8", "int8 is delivered", "passed"] for row in rows)
    assert ["fp16", "engine runs", "failed", "TensorRT builds no engine of fp16.onnx"] in rows
    assert text.endswith("Kept: int8.\n")
    result = call("trt", "--build", bundle, "--json")
    assert result.code == 0
    printed, (report, _) = json.loads(result.out), reports(bundle)
    assert printed.pop("bundle") == str(bundle)
    assert printed == report


@pytest.mark.parametrize(("layers", "status"), [
    ({"Layers": [layer("Quantize", "Half", "Int8"), *[layer("gemm", "Half", "Half")] * 60]}, "failed"),
    ({"Layers": [*[layer("gemm", "Int8", "Half")] * 30, *[layer("gemm", "Half", "Half")] * 30]}, "passed"),
    ({"Layers": [layer("Myelin", "Half", "Half")]}, "skipped"), ({}, "skipped")])
def test_int8_that_is_not_delivered_fails_and_int8_that_cannot_be_seen_is_skipped(
        bundle: Path, layers: dict[str, Any], status: str) -> None:
    board = FakeBoard()
    board.slow, board.layers_of = "fp16", LAYERS | {"int8": layers}
    built = build_bundle(bundle, board)
    int8 = next(engine for engine in built.engines if engine.precision == "int8")
    assert [gate.status for gate in int8.gates if gate.name == "int8 is delivered"] == [status]
    report, _ = reports(bundle)
    assert report["kept"] == ("fp16" if status == "failed" else "int8")
    kept = "skipped" if status == "skipped" else "passed"
    assert [report["verdict"], report["engines"][0]["verdict"]] == [kept, kept]


def test_if_one_engine_cannot_be_built_the_other_is_kept(bundle: Path) -> None:
    board = FakeBoard()
    board.fails = "fp16"
    build_bundle(bundle, board)
    report, record = reports(bundle)
    int8, fp16 = report["engines"]
    assert (int8["precision"], record["precision"], report["kept"]) == ("int8", "int8", "int8")
    assert (fp16["parity"], fp16["measure"]) == (None, None)
    (gate,) = fp16["gates"]
    assert (gate["status"], gate["note"]) == ("failed", "TensorRT builds no engine of fp16.onnx")


def test_an_engine_that_forgets_its_cache_differs_from_its_graph(bundle: Path) -> None:
    board = FakeBoard()
    board.forgets = "int8"
    built = build_bundle(bundle, board)
    gates = {engine.precision: gate for engine in built.engines for gate in engine.gates
             if gate.name == "largest score difference from its graph"}
    assert (gates["int8"].status, gates["fp16"].status) == ("failed", "passed")
    assert gates["fp16"].value is not None
    assert gates["fp16"].value < 1e-3


def test_a_faster_engine_that_is_wrong_is_not_kept(bundle: Path) -> None:
    board = FakeBoard()
    board.broken = "fp16"
    build_bundle(bundle, board)
    report, record = reports(bundle)
    assert (record["engine"], report["kept"]) == ("int8.engine", "int8")
    assert [engine["parity"]["verdict"] for engine in report["engines"]] == ["passed", "failed"]


def test_if_no_engine_passes_the_reports_say_why_and_the_old_engine_stays(bundle: Path) -> None:
    (bundle / ".building-old").mkdir()  # left by a killed build
    (bundle / ".building-old" / "int8.engine").write_bytes(b"half")
    build_bundle(bundle, FakeBoard())
    assert not (bundle / ".building-old").exists()
    before = (bundle / "engine.json").read_bytes()
    assert json.loads(before)["bundle_sha256"] == open_bundle(bundle).sha256
    board = FakeBoard()
    board.free = 10_000_000_000
    _set_budgets(bundle, Budgets(step_ms=1e-6, device_mb=1))
    (bundle / ".timing-10.3.0.26-8.7.cache.lock").touch()  # as trtexec leaves it
    with pytest.raises(GateError, match=r"no engine passes.*step_ms failed.*device_mb failed"):
        build_bundle(bundle, board)
    assert (bundle / "engine.json").read_bytes() == before
    report, _ = reports(bundle)
    assert (report["kept"], report["verdict"]) == (None, "failed")


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


def test_a_bundle_that_was_changed_in_transit_is_not_built(bundle: Path) -> None:
    graph = bundle / "int8.onnx"
    graph.write_bytes(graph.read_bytes()[:-1])
    with pytest.raises(BundleError, match=r"int8\.onnx"):
        build_bundle(bundle, FakeBoard())


def test_a_bundle_of_another_backend_has_nothing_to_build(tiny: Path) -> None:
    with pytest.raises(SatexportError, match="a bundle for onnxruntime has no engines to build"):
        build_bundle(tiny, FakeBoard())


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
