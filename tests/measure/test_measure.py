"""`satexport measure`: every figure is there and means what the design says; what goes wrong is said."""

from __future__ import annotations

import json
import os
import shutil
import signal
import struct
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import asdict, replace
from importlib.util import find_spec
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest

import satexport
from satexport.backends.backend import BACKENDS
from satexport.bundle.contract import RANDOM_WEIGHTS, Contract, GraphOptions
from satexport.bundle.folder import MANIFEST, open_bundle, write_manifest
from satexport.bundle.roles import roles_from_json
from satexport.bundle.target import Budgets, Target
from satexport.errors import RunError
from satexport.measure import schedule
from satexport.measure import turns as measure_module
from satexport.measure.process import Process
from satexport.measure.records import MEASURE_DEFINITIONS, MEASURE_SCHEMA, MeasureReport
from satexport.measure.schedule import PAUSED_TURNS, TURNS
from satexport.measure.turns import Settings, measure
from satexport.models.checkpoint import load_checkpoint
from satexport.models.families import find_variant
from satexport.models.sat.paper import NOTE, PAPER
from satexport.origin import CPU_FLAGS, cores
from satexport.pipeline.export import export_onnx
from satexport.targets import find_target
from tests.bundle.test_folder import GRAPH, VIT, content, copy_of, manifest_of
from tests.commands.test_cli import START, Result, call, start, vit_file
from tests.conftest import TINY
from tests.conftest import export as export_model
from tests.machine import PATIENCE, needs_proc

STEPS = 2
QUICK = ("--steps", STEPS, "--pause", 0.01)
HIDDEN_OF_MLP = 48 * 4 * 48 * 4  # bytes, the largest tensor of a small model: 48 tokens, 4 * 48 wide
NAME = f"sat-t-{TINY}"
WEIGHTS = 12 * 12 * 48 * 48 * 4  # bytes of the matrices of its blocks
needs_memray = pytest.mark.skipif(not find_spec("memray"), reason="needs memray, which Windows does not have")
pytestmark = needs_memray
SPEED, SIZE = "latency of one step, ms", "operations of a chunk and memory, MB"


def retarget(bundle: Path, **changes: Any) -> Path:
    """Write a bundle's manifest anew with another target, every hash right."""
    manifest = manifest_of(bundle)
    (bundle / MANIFEST).unlink()
    target = replace(Target.from_dict(manifest["target"], bundle), **changes)
    write_manifest(bundle, Contract.from_dict(manifest["contract"]), target, manifest["graph"],
                   manifest["operations"], roles_from_json(manifest["roles"]))
    return bundle


def report_in(folder: Path) -> dict[str, Any]:
    place = folder / "reports" if (folder / MANIFEST).exists() else folder
    report: dict[str, Any] = json.loads((place / "measure.json").read_bytes())
    return report


@pytest.fixture(scope="module", autouse=True)
def _turns_without_end() -> Iterator[None]:
    """A turn has all its steps, however long this machine takes for them."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(schedule, "TURN_SECONDS", 1e9)
        yield


@pytest.fixture
def bundle(tiny: Path, tmp_path: Path) -> Path:
    """A bundle, to write reports into or to spoil."""
    return copy_of(tiny, tmp_path)


def export_form(folder: Path, options: GraphOptions) -> Path:
    return export_model(folder, NAME, 2, "random", options, use_onnxsim=False)


def without(packages: tuple[str, ...], folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The processes that start from here on lack some packages."""
    for name in packages:
        (folder / f"{name}.py").write_text(f"raise ModuleNotFoundError('No module {name}', name='{name}')")
    monkeypatch.setenv("PYTHONPATH", str(folder), prepend=os.pathsep)


class Measured(NamedTuple):
    """A folder with bundles, the command that measured them, and its report."""

    path: Path
    result: Result
    report: dict[str, Any]

    @property
    def entries(self) -> list[dict[str, Any]]:
        """What was found of each bundle and of PyTorch."""
        return [*self.report["bundles"], *self.report["eager"]]


# One bundle.

@pytest.fixture(scope="module")
def one(tiny: Path, tmp_path_factory: pytest.TempPathFactory) -> Measured:
    path = copy_of(tiny, tmp_path_factory.mktemp("one"))
    result = call("measure", path, *QUICK, "--no-eager", "--json")
    return Measured(path, result, json.loads(result.out))


def test_json_is_the_report_and_all_there_is_on_standard_output(one: Measured) -> None:
    assert (one.result.code, one.result.err) == (0, f"{RANDOM_WEIGHTS}\n")
    assert one.report == report_in(one.path)


def test_the_report_says_what_it_was_measured_with(one: Measured) -> None:
    origin, (found,), manifest = one.report["origin"], one.report["bundles"], manifest_of(one.path)
    assert {"satexport", "python", "numpy", "onnxruntime", "torch", "memray"} <= set(origin["versions"])
    assert origin["cpu"]
    assert set(origin["cpu_flags"]) <= set(CPU_FLAGS)
    assert origin["cpu_cores"] == found["threads"] == cores()  # where nobody says how many
    assert one.report["settings"]["steps"] == STEPS
    assert found["bundle_sha256"] == open_bundle(one.path).sha256
    assert found["checkpoint"]["sha256"] == manifest["contract"]["checkpoint"]["sha256"]
    assert found["target"] == manifest["target"]
    assert found["tokens"] == {"new": 48, "cached": 48}


def test_a_bundle_measured_alone_has_nothing_beside_it(one: Measured) -> None:
    (found,) = one.report["bundles"]
    assert one.report["eager"] == []
    assert not {"eager", "times_eager"} & set(found)


def test_a_target_without_budgets_passes_nothing(one: Measured) -> None:
    assert (one.report["verdict"], one.report["gates"]) == ("skipped", [])


def test_a_measured_bundle_is_still_a_bundle(one: Measured) -> None:
    assert sorted(os.listdir(one.path)) == sorted(["bundle.json", "reports", *manifest_of(one.path)["files"]])
    assert sorted(os.listdir(one.path / "reports")) == ["export.json", "measure.json", "measure.png"]
    assert satexport.load(one.path).contract.variant == f"{NAME}-2s"


# Several bundles beside PyTorch.

@pytest.fixture(scope="module")
def several(tiny: Path, tiny_lanes: Path, tmp_path_factory: pytest.TempPathFactory) -> Measured:
    """One stream, two, and three of any number; the one for two wants one thread, the others two."""
    folder = tmp_path_factory.mktemp("several")
    two = export_form(folder / "build", GraphOptions(streams=2))
    paths = [retarget(copy_of(tiny, folder / "build"), threads=2), retarget(two, threads=1),
             retarget(copy_of(tiny_lanes, folder / "build"), threads=2)]
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        result = call("measure", *(path.relative_to(folder) for path in paths), *QUICK, "--streams", 3)
    return Measured(folder, result, report_in(folder / "build" / "measure"))


def test_several_bundles_make_one_table_of_speed_and_one_of_size(several: Measured) -> None:
    assert (several.result.code, several.result.err) == (0, f"{RANDOM_WEIGHTS}\n")
    assert several.result.out.count(SPEED) == several.result.out.count(SIZE) == 1
    speed, size = several.result.out.split(SIZE)
    for table in (speed, size):
        first = [line.split("│")[1].strip() for line in table.splitlines() if line.startswith("│")]
        assert first[:3] == [f"{NAME}-2s/{kind}" for kind in ("onnx", "onnx-x2", "onnx-dynamic")]
        assert "PyTorch" in " ".join(first[3:])
    assert "paper" in size


def test_the_latency_is_that_of_single_steps_in_bursts_and_after_pauses(several: Measured) -> None:
    for entry in several.entries:
        for kind, turns in (("burst", TURNS), ("paused", PAUSED_TURNS)):
            latency = entry[kind]
            assert 0 < latency["median_ms"] <= latency["p90_ms"] <= latency["p99_ms"], kind
            assert latency["steps"] == turns * STEPS
        assert entry["load_seconds"] > 0
        burst, paused = (entry[kind]["median_ms"] / 1000 for kind in ("burst", "paused"))
        assert entry["chunks_per_core_second"] == pytest.approx(entry["streams"] / (burst * entry["threads"]))
        assert entry["real_time_factor"] == pytest.approx(paused / 2)  # of a chunk of 2 s


def test_every_bundle_is_measured_with_its_streams_and_its_threads(several: Measured) -> None:
    entries = several.report["bundles"]
    assert [(entry["streams"], entry["threads"]) for entry in entries] == [(1, 2), (2, 1), (3, 2)]


@needs_proc
def test_the_memory_of_a_bundle_is_counted_by_kind(several: Measured) -> None:
    for entry in several.report["bundles"]:
        found, streams = entry["memory_bytes"], entry["streams"]
        assert found["weights"] == (several.path / entry["bundle"] / GRAPH).stat().st_size
        assert found["state"] == 12 * 2 * 3 * 48 * 16 * 4  # of a stream: k and v of 3 heads, 48 tokens of 16
        assert streams * HIDDEN_OF_MLP < found["transient"] < streams * 4e6
        assert found["weights"] < found["resident"] < 500e6


@needs_proc
def test_pytorch_has_memory_of_its_own(several: Measured) -> None:
    for entry in several.report["eager"]:
        found = entry["memory_bytes"]
        assert (found["weights"], entry["streams"]) == (None, 1)
        assert found["state"] == 12 * 48 * 48 * 4  # hidden tokens
        assert HIDDEN_OF_MLP < found["transient"] < 20e6
        assert WEIGHTS < found["resident"] < 1e9


def test_a_bundle_is_compared_with_pytorch_at_its_own_threads(several: Measured) -> None:
    rows = {row["name"]: row for row in several.report["eager"]}
    assert sorted(row["threads"] for row in rows.values()) == [1, 2]  # the same weights at 2 are one row
    for entry in several.report["bundles"]:
        eager = rows[entry["eager"]]
        assert eager["threads"] == entry["threads"]
        for kind in ("burst", "paused"):
            times = eager[kind]["median_ms"] * entry["streams"] / entry[kind]["median_ms"]
            assert entry["times_eager"][kind] == pytest.approx(times)


def test_operations_are_those_that_the_export_counted(several: Measured) -> None:
    for entry in several.report["bundles"]:
        assert entry["operations"] == manifest_of(several.path / entry["bundle"])["operations"]
    one, _, three = several.report["bundles"]
    assert one["operations"] == three["operations"]  # of one stream


def test_every_figure_is_defined(several: Measured) -> None:
    assert several.report["schema"] == MEASURE_SCHEMA
    definitions = several.report["definitions"]
    assert MEASURE_DEFINITIONS.items() <= definitions.items()
    one, _, three = several.report["bundles"]
    figures = {"operations", "load_seconds", "burst", "paused", "real_time_factor", "chunks_per_core_second",
               "times_one_stream", "times_eager", "eager", "paper", "executed"}
    about = {"name", "bundle", "bundle_sha256", "variant", "target", "options", "streams", "tokens",
             "checkpoint", "threads", "hop_seconds", "memory_bytes", "gates"}
    assert set(three) == figures | about
    assert set(one) == figures - {"times_one_stream"} | about
    of_engines = {"device", "layers", "build", "cuda_graphs"}
    assert set(definitions) == figures - {"load_seconds"} | {"load", *three["memory_bytes"]} | of_engines


def test_the_report_on_several_lies_in_build_measure(several: Measured) -> None:
    assert sorted(os.listdir(several.path / "build" / "measure")) == ["measure.json", "measure.png"]


def test_the_picture_is_a_png_that_shows_something(several: Measured) -> None:
    from matplotlib.image import imread

    path = several.path / "build" / "measure" / "measure.png"
    head = path.read_bytes()[:24]
    assert head.startswith(b"\x89PNG\r\n\x1a\n")
    width, height = struct.unpack(">II", head[16:])
    pixels = np.asarray(imread(path))
    assert pixels.shape[:2] == (height, width)
    assert min(width, height) > 250
    assert len(np.unique(pixels.reshape(-1, pixels.shape[2]), axis=0)) > 10  # colours


def test_each_of_several_bundles_gets_its_own_part_of_the_report(several: Measured) -> None:
    for entry in several.report["bundles"]:
        path = several.path / entry["bundle"]
        own = report_in(path)
        assert own["bundles"] == [entry]
        assert [row["name"] for row in own["eager"]] == [entry["eager"]]
        assert own["origin"] == several.report["origin"]
        assert not (path / "reports" / "measure.png").exists()
        satexport.load(path)


def test_a_report_that_goes_elsewhere_leaves_the_bundle_untouched(
        bundle: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    before = content(bundle)
    result = call("measure", bundle, "--no-eager", *QUICK, "--report", tmp_path / "a" / "b")
    assert (result.code, content(bundle)) == (0, before)
    assert sorted(os.listdir(tmp_path / "a" / "b")) == ["measure.json", "measure.png"]
    assert not (tmp_path / "build").exists()
    report = report_in(tmp_path / "a" / "b")
    assert (report["eager"], "times_eager" in report["bundles"][0]) == ([], False)


@pytest.fixture(scope="module")
def pair(demo: Path, random_vit: Path, tmp_path_factory: pytest.TempPathFactory) -> Measured:
    """The demo, whose budget is met, beside a small ViT with random weights, whose budget is not."""
    folder = tmp_path_factory.mktemp("pair")
    paths = [budgets(copy_of(demo, folder), transient_mb=1000),
             budgets(copy_of(random_vit, folder), transient_mb=0.03)]
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        result = call("measure", *paths, "--no-eager", *QUICK)
    return Measured(folder, result, report_in(folder / "build" / "measure"))


def of_pair(pair: Measured, key: str) -> list[object]:
    """What stands in the report on both, in the demo's and in the ViT's."""
    places = ("build/measure", "sat-t-2s/onnx", f"{VIT}-2s/onnx")
    return [report_in(pair.path / place)[key] for place in places]


def test_random_weights_are_said_of_the_bundle_that_has_them_alone(pair: Measured) -> None:
    assert RANDOM_WEIGHTS in pair.result.err
    assert of_pair(pair, "warning") == [RANDOM_WEIGHTS, None, RANDOM_WEIGHTS]


def test_a_budget_of_one_of_several_bundles_fails_that_one_alone(pair: Measured) -> None:
    assert pair.result.code == 1
    assert f"{VIT}-2s/onnx: transient_mb failed" in pair.result.err
    assert "sat-t-2s/onnx: transient_mb failed" not in pair.result.err
    assert of_pair(pair, "verdict") == ["failed", "passed", "failed"]
    both, demo, vit = of_pair(pair, "gates")
    assert isinstance(demo, list)
    assert isinstance(vit, list)
    assert both == demo + vit
    assert (len(demo), len(vit)) == (1, 1)


def test_the_figures_of_the_paper_stand_beside_with_their_difference(pair: Measured) -> None:
    paper = PAPER["sat-t-2s"]
    demo, small = pair.report["bundles"]
    assert demo["paper"] == asdict(paper)
    assert small["paper"] is None  # no published model
    assert demo["paper"]["note"] == NOTE
    assert NOTE in pair.result.out
    assert round(demo["operations"]["model"] / 1e9, 3) == 0.564


def test_a_model_without_a_cache_has_no_state(pair: Measured) -> None:
    assert [entry["memory_bytes"]["state"] for entry in pair.report["bundles"]] == [884_736, 0]
    assert [entry["tokens"]["cached"] for entry in pair.report["bundles"]] == [48, 0]
    assert (pair.path / "build" / "measure" / "measure.png").exists()


@pytest.fixture
def few_turns(monkeypatch: pytest.MonkeyPatch) -> None:
    """For what is measured in this process."""
    monkeypatch.setattr(schedule, "TURNS", 3)
    monkeypatch.setattr(schedule, "PAUSED_TURNS", 2)


def test_bundles_take_turns_and_those_of_one_name_are_told_apart(
        few_turns: None, tiny: Path, bundle: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    turns, ask = [], Process.ask

    def listening(process: Process, do: str, **arguments: Any) -> Any:
        if do == "run":
            turns.append((process.name, arguments["pause"]))
        return ask(process, do, **arguments)

    monkeypatch.setattr(Process, "ask", listening)
    report = measure([open_bundle(tiny), open_bundle(bundle)], Settings(steps=1, pause=0.02, eager=False))
    a, b = str(tiny), str(bundle)
    assert [entry.name for entry in report.bundles] == [a, b]
    assert turns == 3 * [(a, 0), (b, 0)] + 2 * [(a, 0.02), (b, 0.02)]


def test_a_bundle_with_a_hidden_cache_that_hears_mel_is_measured(few_turns: None, tmp_path: Path) -> None:
    bundle = open_bundle(export_form(tmp_path, GraphOptions(cache="hidden", input="mel")))
    (entry,) = measure([bundle], Settings(steps=1, pause=0.01, eager=False)).bundles
    assert entry.memory_bytes.state == 12 * 48 * 48 * 4
    assert HIDDEN_OF_MLP < (entry.memory_bytes.transient or 0) < 4e6
    assert entry.operations
    assert entry.operations["front_end"] == 0


@needs_proc
def test_the_threads_that_were_asked_for_are_those_that_work(few_turns: None, tiny: Path) -> None:
    settings = Settings(threads=1, steps=1, pause=0.01, eager=False)
    seen = []

    class Counted(Process):
        def ask(self, do: str, **arguments: Any) -> Any:
            reply = super().ask(do, **arguments)
            if do == "resident":
                seen.append(len(os.listdir(f"/proc/{self._process.pid}/task")))
            return reply

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(measure_module, "Process", Counted)
        for threads in (1, 3):
            (entry,) = measure([open_bundle(tiny)], replace(settings, threads=threads)).bundles
            assert entry.threads == threads
    assert seen[1] - seen[0] == 2


# Budgets.

def budgets(bundle: Path, **limits: float) -> Path:
    return retarget(bundle, budgets=Budgets(**limits))


@needs_proc
def test_a_budget_of_a_target_file_that_is_met_is_passed(bundle: Path, tmp_path: Path) -> None:
    file = tmp_path / "board.toml"
    file.write_text('name = "board"\nbackend = "onnxruntime"\nprecision = "fp32"\n'
                    "[gates]\nmax_score_difference = 1e-4\nmap_kept = 0.999\n"
                    "[budgets]\nstep_ms = 10000\nresident_mb = 2000\ntransient_mb = 4\n")
    retarget(bundle, **vars(find_target(str(file))))
    result = call("measure", bundle, "--no-eager", *QUICK)
    assert (result.code, result.err) == (0, f"{RANDOM_WEIGHTS}\n")
    assert "Budgets: passed." in result.out
    report = report_in(bundle)
    assert report["verdict"] == "passed"
    assert [(gate["status"], gate["limit"]) for gate in report["gates"]] == [
        ("passed", 10_000), ("passed", 2000), ("passed", 4)]
    (entry,) = report["bundles"]
    steps, resident, transient = (gate["value"] for gate in report["gates"])
    assert steps == max(entry[kind]["p99_ms"] for kind in ("burst", "paused"))
    assert resident == entry["memory_bytes"]["resident"] / 1e6
    assert transient == entry["memory_bytes"]["transient"] / 1e6


@needs_proc
def test_a_budget_that_is_exceeded_ends_with_1_and_names_value_and_limit(bundle: Path) -> None:
    limits = {"step_ms": 0.001, "resident_mb": 1.5, "transient_mb": 0.03}
    budgets(bundle, **limits)
    result = call("measure", bundle, "--no-eager", *QUICK)
    assert result.code == 1
    assert "Budgets: failed." in result.out
    report = report_in(bundle)
    assert report["verdict"] == "failed"
    assert {(gate["status"], gate["limit"]) for gate in report["gates"]} == {
        ("failed", limit) for limit in limits.values()}
    for gate, (name, limit) in zip(report["gates"], limits.items(), strict=True):
        assert f"{NAME}-2s/onnx: {name} failed: {gate['value']:.4g}, at most {limit:g}" in result.err
    assert (bundle / "reports" / "measure.png").exists()


def test_a_reader_that_leaves_early_does_not_turn_failed_into_passed(bundle: Path) -> None:
    budgets(bundle, step_ms=0.001)
    reading, writing = os.pipe()
    os.close(reading)
    done = subprocess.run([sys.executable, "-c", START, "measure", bundle, "--no-eager", *map(str, QUICK)],
                          stdout=writing, stderr=subprocess.PIPE, encoding="utf-8", check=False)
    os.close(writing)
    assert (done.returncode, "step_ms failed" in done.stderr, "Traceback" in done.stderr) == (1, True, False)
    assert report_in(bundle)["verdict"] == "failed"


def test_a_budget_that_cannot_be_judged_is_skipped_and_never_passed(
        bundle: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    budgets(bundle, step_ms=10_000, transient_mb=1000)
    (tmp_path / "fakes").mkdir()
    without(("memray",), tmp_path / "fakes", monkeypatch)
    result = call("measure", bundle, "--no-eager", *QUICK)
    assert result.code == 0
    assert "transient memory not measured: memray is not installed: pip install 'satexport[measure]'" \
        in result.err
    assert "Budgets: skipped." in result.out
    report = report_in(bundle)
    assert report["verdict"] == "skipped"
    assert [gate["status"] for gate in report["gates"]] == ["passed", "skipped"]
    assert report["gates"][1]["value"] is None
    assert report["bundles"][0]["memory_bytes"]["transient"] is None


# What is missing.

def test_a_device_that_has_numpy_and_the_runtime_alone_is_measured(
        bundle: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "fakes").mkdir()
    without(("torch", "onnx", "onnxsim", "safetensors", "sklearn", "scipy", "soundfile", "soxr", "memray",
             "matplotlib"), tmp_path / "fakes", monkeypatch)
    process = start("measure", bundle, *QUICK)
    out, err = process.communicate(timeout=PATIENCE)
    assert process.returncode == 0
    assert f"{NAME}-2s/onnx" in out
    assert f"no PyTorch beside {NAME}-2s: torch is not installed: pip install 'satexport[export]'" in err
    assert "no measure.png: matplotlib is not installed: pip install 'satexport[measure]'" in err
    assert "Traceback" not in err
    report = report_in(bundle)
    assert (report["eager"], len(report["notes"])) == ([], 2)
    assert report["bundles"][0]["burst"]["median_ms"] > 0
    assert not (bundle / "reports" / "measure.png").exists()


def test_a_runtime_that_is_not_installed_ends_with_3_and_names_the_extra(
        bundle: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "fakes").mkdir()
    without(("onnxruntime",), tmp_path / "fakes", monkeypatch)
    result = call("measure", bundle, *QUICK)
    assert (result.code, result.out) == (3, "")
    assert "pip install 'satexport[cpu]'" in result.err
    assert not (bundle / "reports" / "measure.json").exists()


def test_a_bundle_for_a_backend_that_is_not_here_ends_with_3(bundle: Path) -> None:
    retarget(bundle, backend="tflite")
    result = call("measure", bundle, *QUICK)
    assert (result.code, result.out) == (3, "")
    assert f"{bundle} is for the backend 'tflite'" in result.err
    assert ", ".join(BACKENDS) in result.err


@pytest.fixture(scope="module")
def lost(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A bundle of a file of weights that was moved since."""
    folder = tmp_path_factory.mktemp("lost")
    file = vit_file(folder, 7)
    checkpoint = load_checkpoint(str(file), find_variant(VIT, 2))
    path = export_onnx(checkpoint, find_target("onnx"), folder, use_onnxsim=False).path
    file.rename(folder / "moved.safetensors")
    return path


def test_weights_that_are_not_known_here_are_measured_without_pytorch(lost: Path) -> None:
    result = call("measure", lost, *QUICK)
    assert result.code == 0
    assert f"no PyTorch beside {VIT}-2s: " in result.err
    assert "seed-7.safetensors" in result.err
    assert "pass --checkpoint FILE" in result.err
    report = report_in(lost)
    assert (report["eager"], len(report["notes"])) == ([], 1)
    assert "eager" not in report["bundles"][0]


def test_weights_that_were_named_serve_a_bundle_whose_are_not_known_and_no_other(
        lost: Path, tiny: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SATEXPORT_CACHE", str(tmp_path))  # loading a file makes it known
    moved = lost.parents[1] / "moved.safetensors"
    with Process("eager") as process:
        for path in (tiny, lost):
            loaded = process.ask("load_eager", bundle=str(path), checkpoint=str(moved), threads=1)
            assert loaded["seconds"] > 0


def test_weights_that_were_named_and_do_not_fit_end_with_4(lost: Path, tmp_path: Path) -> None:
    result = call("measure", lost, *QUICK, "--checkpoint", vit_file(tmp_path, 8))
    assert (result.code, result.out) == (4, "")
    assert "seed-8.safetensors has the SHA-256" in result.err


# Bad input and wrong use.

def test_a_folder_that_is_no_bundle_ends_with_4(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    for path, words in ((tmp_path / "empty", "it is no bundle"), (tmp_path / "gone", "no such folder")):
        result = call("measure", path)
        assert (result.code, result.out, words in result.err) == (4, "", True)
        assert str(path) in result.err
    assert os.listdir(tmp_path) == ["empty"]
    assert not os.listdir(tmp_path / "empty")


def test_a_changed_bundle_beside_a_whole_one_ends_with_4_before_any_work(
        bundle: Path, tiny: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(measure_module, "Process", None)  # nothing may start
    data = bytearray((bundle / GRAPH).read_bytes())
    data[len(data) // 2] ^= 1
    (bundle / GRAPH).write_bytes(data)
    result = call("measure", tiny, bundle)
    assert (result.code, result.out) == (4, "")
    assert f"{bundle / GRAPH} was changed" in result.err


@pytest.mark.parametrize("options", [
    ("--threads", 0), ("--threads", -1), ("--threads", 257), ("--streams", 0), ("--streams", -1),
    ("--streams", "x"), ("--steps", 1), ("--steps", "x"), ("--pause", 0), ("--pause", "inf"),
    ("--pause", "nan")], ids=lambda options: " ".join(map(str, options)))
def test_options_that_cannot_be_meant_end_with_2(
        options: tuple[object, ...], tiny: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(measure_module, "Process", None)
    result = call("measure", tiny, *options)
    assert (result.code, result.out) == (2, "")
    assert str(options[0]) in result.err


def test_measure_without_a_bundle_ends_with_2() -> None:
    assert call("measure").code == 2


@pytest.mark.parametrize("place", ["below a file", "a file system that takes no files"])
def test_a_place_that_takes_no_report_ends_with_5_before_any_work(
        place: str, bundle: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(measure_module, "Process", None)
    (tmp_path / "file").write_text("mine")
    folder = tmp_path / "file" / "report" if place == "below a file" else Path("/proc/report")
    before = content(tmp_path)
    result = call("measure", bundle, *QUICK, "--report", folder)
    assert (result.code, result.out) == (5, "")
    assert f"{folder}: cannot be written" in result.err
    assert content(tmp_path) == before


def test_a_place_that_fails_at_the_end_still_gets_its_table(
        bundle: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def measured(*arguments: Any) -> MeasureReport:
        report = measure(*arguments)
        (bundle / "reports" / "measure.json").mkdir()  # in the way, for root, too
        return report

    measure = measure_module.measure
    monkeypatch.setattr(measure_module, "measure", measured)
    result = call("measure", bundle, "--no-eager", *QUICK)
    assert result.code == 5
    assert SPEED in result.out
    assert "measure.json: cannot be written" in result.err


def test_any_number_of_streams_must_be_said(bundle: Path, tiny_lanes: Path,
                                            monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(measure_module, "Process", None)
    result = call("measure", bundle, tiny_lanes, *QUICK, "--report", bundle.parent / "report")
    assert (result.code, result.out) == (2, "")
    assert f"{tiny_lanes} runs any number of streams: say with --streams N how many." in result.err


def test_a_number_of_streams_that_no_bundle_would_heed_ends_with_2(
        bundle: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(measure_module, "Process", None)
    result = call("measure", bundle, *QUICK, "--streams", 8)
    assert (result.code, result.out) == (2, "")
    assert "--streams 8" in result.err
    assert "onnx runs 1" in result.err


def test_more_streams_than_the_memory_holds_end_with_2_and_say_how_much_is_there(
        tiny_lanes: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(measure_module, "Process", None)
    monkeypatch.setattr("satexport.tagging.tagger.available_bytes", lambda: 3 * 10**9)
    for result in (
            call("measure", tiny_lanes, *QUICK, "--streams", 1_000_000_000, "--report", tmp_path / "report"),
            call("onnx", "--model", "sat-t", "--checkpoint", "demo", "--output", tmp_path / "build",
                 "--streams", 1_000_000_000)):
        assert (result.code, result.out) == (2, "")
        assert "1000000000 streams of sat-t-" in result.err
        assert "3.0 GB are free. Ask for " in result.err
    assert not (tmp_path / "build").exists()


@pytest.mark.parametrize("streams", ["0", "-1", "x", " ", "1.5", "1e3"])
def test_an_export_for_a_number_of_streams_that_is_none_ends_with_2(streams: str, tmp_path: Path) -> None:
    result = call("onnx", "--model", "sat-t", "--checkpoint", "demo", "--output", tmp_path / "build",
                  "--streams", streams)
    assert result.code == 2
    assert f"--streams {streams}: expected a number from 1, or dynamic." in result.err
    assert not os.listdir(tmp_path)


def test_a_model_without_a_cache_has_no_form_of_it(tmp_path: Path) -> None:
    result = call("onnx", "--model", "vit-t", "--checkpoint", "random", "--cache", "hidden",
                  "--output", tmp_path / "build")
    assert (result.code, "vit-t-2s has no cache" in result.err) == (2, True)
    assert not os.listdir(tmp_path)


# Processes that end.

def test_a_process_that_ends_by_itself_is_an_error(tiny: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "executable", shutil.which("false"))
    with pytest.raises(RunError, match=rf"{NAME}-2s/onnx: the process .* ended \(exit code 1\)") as caught:
        measure([open_bundle(tiny)], Settings(eager=False))
    assert caught.value.exit_code == 5


def workers_of(parent: int) -> list[int]:
    """The processes that a `satexport measure` has started."""
    found = []
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            command = (folder / "cmdline").read_bytes()
            its_parent = int((folder / "stat").read_text().rpartition(")")[2].split()[1])
        except OSError:  # gone meanwhile
            continue
        if its_parent == parent and b"satexport.measure.worker" in command:
            found.append(int(folder.name))
    return found


def wait_for_worker(process: subprocess.Popen[str], library: str) -> list[int]:
    """Wait until a process has a worker that has loaded a library; returns its workers."""
    while process.poll() is None:
        workers = workers_of(process.pid)
        for worker in workers:
            if library in Path(f"/proc/{worker}/maps").read_text():
                return workers
        time.sleep(0.001)
    pytest.fail(f"it ended with {process.returncode}: {process.communicate()}")


@needs_proc
def test_a_process_that_is_killed_ends_the_command_with_5(bundle: Path) -> None:
    process = start("measure", bundle, "--no-eager", "--steps", 2, "--pause", 60)
    (worker,) = wait_for_worker(process, "onnxruntime")
    os.kill(worker, signal.SIGKILL)
    out, err = process.communicate(timeout=PATIENCE)
    assert (process.returncode, out) == (5, "")
    assert f"{NAME}-2s/onnx: the process that is measured ended (exit code -9); was there enough" in err
    assert "Traceback" not in err
    assert not (bundle / "reports" / "measure.json").exists()


@needs_proc
@pytest.mark.parametrize("to", ["the command", "its process group"])
@pytest.mark.parametrize("moment", ["while a worker imports", "in a pause"])
def test_an_interrupt_ends_with_130_and_leaves_no_process_and_no_report(
        to: str, moment: str, bundle: Path) -> None:
    before = content(bundle)
    program = f"import signal; signal.signal(signal.SIGINT, signal.default_int_handler)\n{START}"
    process = subprocess.Popen(
        [sys.executable, "-c", program, "measure", bundle, "--no-eager", "--steps", "2", "--pause", "60"],
        encoding="utf-8", stdout=subprocess.PIPE, stderr=subprocess.PIPE, start_new_session=True)
    if moment == "in a pause":
        workers = wait_for_worker(process, "onnxruntime")
        time.sleep(0.5)
    else:
        workers = wait_for_worker(process, "_multiarray_umath")  # of numpy, the first of many
    (os.kill if to == "the command" else os.killpg)(process.pid, signal.SIGINT)
    out, err = process.communicate(timeout=PATIENCE)
    assert (process.returncode, out) == (130, "")
    assert err.strip() == "Interrupted; what was there before is untouched."
    assert workers
    assert not [worker for worker in workers if Path(f"/proc/{worker}").exists()]
    assert content(bundle) == before
