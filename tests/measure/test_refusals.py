"""What `satexport measure` does if something is missing or wrong."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest

from satexport.backends.backend import BACKENDS
from satexport.measure import turns as measure_module
from satexport.measure.process import Process
from satexport.measure.records import MeasureReport
from satexport.models.checkpoint import load_checkpoint
from satexport.models.families import find_variant
from satexport.origin import Cpu
from satexport.pipeline.export import export_onnx
from satexport.targets import find_target
from tests.bundle.copies import GRAPH, content
from tests.commands.calls import call, start
from tests.machine import PATIENCE, needs_memray
from tests.measure.measured import QUICK, report_in, retarget, without
from tests.tiny import SAT, VIT, vit_file

pytestmark = [needs_memray, pytest.mark.usefixtures("whole_turns")]

# Something is missing.

def test_a_device_with_only_numpy_and_the_runtime_is_measured(
        bundle: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "fakes").mkdir()
    without(("torch", "onnx", "onnxsim", "safetensors", "sklearn", "scipy", "soundfile", "soxr", "memray",
             "matplotlib"), tmp_path / "fakes", monkeypatch)
    process = start("measure", bundle, *QUICK)
    out, err = process.communicate(timeout=PATIENCE)
    assert process.returncode == 0
    assert "step in a burst, ms" in out
    assert (f"{SAT}-2s is not compared with PyTorch: torch is not installed: pip install 'satexport[export]'"
            in err)
    assert "no measure.png: matplotlib is not installed: pip install 'satexport[measure]'" in err
    assert "Traceback" not in err
    report = report_in(bundle)
    assert (report["eager"], len(report["notes"])) == ([], 2)
    assert report["bundles"][0]["latency"]["burst"]["median_ms"] > 0
    assert not (bundle / "reports" / "measure.png").exists()


def test_a_runtime_that_is_not_installed_ends_with_3_and_names_the_extra(
        bundle: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "fakes").mkdir()
    without(("onnxruntime",), tmp_path / "fakes", monkeypatch)
    result = call("measure", bundle, "--no-eager", *QUICK)
    assert (result.code, result.out) == (3, "")
    assert "pip install 'satexport[cpu]'" in result.err
    assert not (bundle / "reports" / "measure.json").exists()


def test_a_python_that_cannot_be_started_again_ends_with_5(
        bundle: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As in an emulator, where this system cannot start what the emulator runs."""
    python = bundle / "labels.txt"  # no program
    monkeypatch.setattr("satexport.measure.process.sys.executable", str(python))
    result = call("measure", bundle, *QUICK)
    assert (result.code, result.out) == (5, "")
    assert f"the process that is measured cannot be started (Permission denied: {python})" in result.err
    assert "emulator" not in result.err
    monkeypatch.setattr("satexport.measure.process.read_cpu", lambda: Cpu("Cortex-A76", [], is_emulated=True))
    assert "Measure on the device instead of in an emulator." in call("measure", bundle, *QUICK).err


def test_a_bundle_for_an_unknown_backend_ends_with_3(bundle: Path) -> None:
    retarget(bundle, backend="tflite")
    result = call("measure", bundle, "--no-eager", *QUICK)
    assert (result.code, result.out) == (3, "")
    assert f"{bundle} is for the backend 'tflite'" in result.err
    assert ", ".join(BACKENDS) in result.err


@pytest.fixture(scope="module")
def lost(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A bundle whose file of weights was moved after the export."""
    folder = tmp_path_factory.mktemp("lost")
    file = vit_file(folder, 7)
    checkpoint = load_checkpoint(str(file), find_variant(VIT, 2))
    path = export_onnx(checkpoint, find_target("onnx"), folder, use_onnxsim=False).path
    file.rename(folder / "moved.safetensors")
    return path


def test_a_bundle_with_unknown_weights_is_measured_without_pytorch(lost: Path) -> None:
    result = call("measure", lost, *QUICK)
    assert result.code == 0
    assert f"{VIT}-2s is not compared with PyTorch: " in result.err
    assert "seed-7.safetensors" in result.err
    assert "pass --checkpoint FILE" in result.err
    report = report_in(lost)
    assert (report["eager"], len(report["notes"])) == ([], 1)
    assert "eager" not in report["bundles"][0]


def test_a_named_checkpoint_is_used_only_for_bundles_whose_weights_are_unknown(
        lost: Path, tiny: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SATEXPORT_CACHE", str(tmp_path))  # because loading a file remembers it
    moved = lost.parents[1] / "moved.safetensors"
    with Process("eager") as process:
        for path in (tiny, lost):
            loaded = process.ask("load_eager", bundle=str(path), checkpoint=str(moved), threads=1)
            assert loaded["seconds"] > 0


@pytest.mark.long
def test_a_named_checkpoint_that_does_not_fit_ends_with_4(lost: Path, tmp_path: Path) -> None:
    result = call("measure", lost, *QUICK, "--checkpoint", vit_file(tmp_path, 8))
    assert (result.code, result.out) == (4, "")
    assert "seed-8.safetensors has the SHA-256" in result.err


# Bad input and wrong use.

def test_a_folder_that_is_no_bundle_ends_with_4(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    for path, words in ((tmp_path / "empty", "is not a bundle"), (tmp_path / "gone", "no such folder")):
        result = call("measure", path)
        assert (result.code, result.out, words in result.err) == (4, "", True)
        assert str(path) in result.err
    assert os.listdir(tmp_path) == ["empty"]
    assert not os.listdir(tmp_path / "empty")


def test_a_changed_bundle_among_several_ends_with_4_before_any_work(
        bundle: Path, tiny: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(measure_module, "Process", None)  # nothing may start
    data = bytearray((bundle / GRAPH).read_bytes())
    data[len(data) // 2] ^= 1
    (bundle / GRAPH).write_bytes(data)
    result = call("measure", tiny, bundle)
    assert (result.code, result.out) == (4, "")
    assert f"{bundle / GRAPH} was modified" in result.err


@pytest.mark.parametrize("options", [
    ("--threads", 0), ("--threads", -1), ("--threads", 257), ("--streams", 0), ("--streams", -1),
    ("--streams", "x"), ("--steps", 1), ("--steps", "x"), ("--pause", 0), ("--pause", "inf"),
    ("--pause", "nan")], ids=lambda options: " ".join(map(str, options)))
def test_invalid_option_values_end_with_2(
        options: tuple[object, ...], tiny: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(measure_module, "Process", None)
    result = call("measure", tiny, *options)
    assert (result.code, result.out) == (2, "")
    assert str(options[0]) in result.err
    assert ("is not a whole number from " in result.err) == (options[0] != "--pause")


def test_measure_without_a_bundle_ends_with_2() -> None:
    assert call("measure").code == 2


@pytest.mark.parametrize("place", ["below a file", "a file system that takes no files"])
def test_a_report_folder_that_cannot_be_written_ends_with_5_before_any_work(
        place: str, bundle: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(measure_module, "Process", None)
    (tmp_path / "file").write_text("mine")
    folder = tmp_path / "file" / "report" if place == "below a file" else Path("/proc/report")
    before = content(tmp_path)
    result = call("measure", bundle, *QUICK, "--report", folder)
    assert (result.code, result.out) == (5, "")
    assert f"{folder}: cannot be written" in result.err
    assert content(tmp_path) == before


def test_the_table_is_shown_even_if_the_report_cannot_be_written(
        bundle: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def measured(*arguments: Any) -> MeasureReport:
        report = measure(*arguments)
        (bundle / "reports" / "measure.json").mkdir()  # prevents writing the file, even for root
        return report

    measure = measure_module.measure
    monkeypatch.setattr(measure_module, "measure", measured)
    result = call("measure", bundle, "--no-eager", *QUICK)
    assert result.code == 5
    assert "step in a burst, ms" in result.out
    assert "measure.json: cannot be written" in result.err


def test_a_bundle_for_any_number_of_streams_needs_the_option_streams(bundle: Path, tiny_lanes: Path,
                                            monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(measure_module, "Process", None)
    result = call("measure", bundle, tiny_lanes, *QUICK, "--report", bundle.parent / "report")
    assert (result.code, result.out) == (2, "")
    assert f"{tiny_lanes} runs any number of streams: add --streams N." in result.err


def test_streams_that_no_bundle_leaves_open_end_with_2(
        bundle: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(measure_module, "Process", None)
    result = call("measure", bundle, *QUICK, "--streams", 8)
    assert (result.code, result.out) == (2, "")
    assert "--streams 8" in result.err
    assert "onnx runs 1" in result.err


def test_more_streams_than_fit_into_memory_end_with_2_and_name_the_free_memory(
        tiny_lanes: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(measure_module, "Process", None)
    monkeypatch.setattr("satexport.tagging.tagger.available_bytes", lambda: 3 * 10**9)
    for result in (
            call("measure", tiny_lanes, *QUICK, "--streams", 1_000_000_000, "--report", tmp_path / "report"),
            call("onnx", "--model", "sat-t", "--checkpoint", "demo", "--output", tmp_path / "build",
                 "--streams", 1_000_000_000)):
        assert (result.code, result.out) == (2, "")
        assert "1000000000 streams of sat-t-" in result.err
        assert "3.0 GB are available. Use at most " in result.err
    assert not (tmp_path / "build").exists()


@pytest.mark.parametrize("streams", ["0", "-1", "x", " ", "1.5", "1e3"])
def test_an_invalid_number_of_streams_ends_an_export_with_2(streams: str, tmp_path: Path) -> None:
    result = call("onnx", "--model", "sat-t", "--checkpoint", "demo", "--output", tmp_path / "build",
                  "--streams", streams)
    assert result.code == 2
    assert f"--streams {streams}: expected a number from 1, or dynamic." in result.err
    assert not os.listdir(tmp_path)


def test_a_model_without_a_cache_refuses_the_option_cache(tmp_path: Path) -> None:
    result = call("onnx", "--model", "vit-t", "--checkpoint", "random", "--cache", "hidden",
                  "--output", tmp_path / "build")
    assert (result.code, "vit-t-2s has no cache" in result.err) == (2, True)
    assert not os.listdir(tmp_path)
