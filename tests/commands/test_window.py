"""A window longer than the delay through the commands: from a checkpoint to bundles that are proven and
measured, and the mistakes of users."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from satexport.bundle.folder import open_bundle
from satexport.parity.golden import run_golden
from satexport.tagging.tagger import load
from tests.commands.calls import call
from tests.machine import need
from tests.tiny import WINDOW

NAME, SAYS = f"{WINDOW}-1s-window-10s", "a window of the last 10 s every 1 s"
EXPORT = ("--model", WINDOW, "--window", 10, "--delay", 1, "--checkpoint", "random")


@pytest.fixture(scope="module")
def build(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An output folder with the export of a model over the last 10 s every second."""
    folder = tmp_path_factory.mktemp("window")
    result = call("onnx", *EXPORT, "--no-simplify", "--output", folder)
    assert result.code == 0, result.err
    assert f"{NAME} scores {SAYS}.\n10 golden chunks" in result.out
    assert json.loads((folder / NAME / "onnx" / "reports" / "export.json").read_bytes())["streaming"] == SAYS
    return folder


@pytest.mark.parametrize("command", [("cpu", "--int8"), ("openvino", "--int8"), ("trt", "--fp16")],
                         ids=lambda command: command[0])
def test_a_bundle_of_every_backend_is_proven_over_the_window(build: Path, command: tuple[str, ...]) -> None:
    if command[0] == "openvino":
        need("openvino", "openvino")
    result = call(*command, "--output", build, "--no-measure", "--minutes", 0.3, "--json")
    assert result.code == 0, result.err
    made = json.loads(result.out)
    contract = open_bundle(made["bundle"]).contract
    assert (contract.variant, contract.hop_samples, contract.window_samples) == (NAME, 16_000, 160_000)
    (differences,) = made["parity"]["differences"].values()
    assert (made["parity"]["streaming"], differences["chunks"]) == (SAYS, 18)
    assert made["parity"]["drift"]["drift"] == pytest.approx(0, abs=1e-3)
    if command[0] != "trt":
        assert run_golden(load(made["bundle"])).verdict == "passed"


@pytest.mark.long
def test_a_bundle_is_exported_first_and_measured_with_its_audio_as_state(tmp_path: Path) -> None:
    result = call("cpu", "--fp32", *EXPORT, "--output", tmp_path, "--no-measure", "--minutes", 0.1)
    assert result.code == 0, result.err
    assert f"{NAME} scores {SAYS}." in result.out
    result = call("measure", tmp_path / NAME / "cpu-fp32", "--steps", 2, "--pause", 0.01)
    assert (result.code, f"{NAME} scores {SAYS}." in result.out) == (0, True), result.err
    report = json.loads((tmp_path / NAME / "cpu-fp32" / "reports" / "measure.json").read_bytes())
    for entry in (*report["bundles"], *report["eager"]):
        assert (entry["streaming"], entry["memory_bytes"]["state"]) == (SAYS, 9 * 16_000 * 4)
        assert entry["hop_seconds"] == 1


@pytest.mark.long
def test_parity_compares_several_streams_over_their_windows(build: Path) -> None:
    result = call("onnx", *EXPORT, "--streams", 3, "--no-simplify", "--output", build)
    assert result.code == 0, result.err
    for options in (("--minutes", 1), ("--golden",)):
        result = call("parity", build / NAME / "onnx-x3", *options, "--json")
        assert result.code == 0, result.err
        report = json.loads(result.out)
        (found,) = report["differences"].values()
        assert (report["streaming"], found["largest"] < 1e-4) == (SAYS, True)


@pytest.mark.parametrize(("words", "code", "message"), [
    (("onnx", "--model", WINDOW, "--window", 2, "--delay", 10), 2, "expected a delay from 1 s to the window"),
    (("onnx", "--model", "sat-t", "--window", 2), 2, "sat-t keeps a cache of what it heard before"),
    (("onnx", "--model", WINDOW, "--window", 3), 2, f"{WINDOW} has no window of 3 s; it has 1, 2, 10"),
    (("onnx", "--model", WINDOW, "--window", "ten"), 2, "'ten' is not a valid integer"),
    (("cpu", "--int8", "--model", "sat-t", "--window", 2), 2, "leave --window out"),
    (("cpu", "--int8", "--window", 2), 2, "--window applies only to a new export: add --model")])
def test_an_impossible_window_is_wrong_use(
        words: tuple[object, ...], code: int, message: str, tmp_path: Path) -> None:
    result = call(*words, "--output", tmp_path / "out")
    assert (result.code, message in result.err) == (code, True), result.err
    assert not (tmp_path / "out").exists()
