"""What `satexport openvino` refuses, and its messages if something is missing."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from satexport.backends.openvino import step as backend
from satexport.bundle.folder import open_bundle
from satexport.tagging.tagger import load
from tests import ROOT
from tests.backends.compiled import compiled
from tests.bundle.copies import output_with
from tests.commands.calls import call
from tests.machine import need

need("openvino", "openvino")


def test_bf16_on_a_cpu_that_has_none_is_refused_and_int8_then_has_fp32_beside_it(
        tiny: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(backend, "has_bf16", lambda core, device: False)
    output = output_with(tiny, tmp_path)
    result = call("openvino", "--bf16", "--output", output)
    assert result.code == 3
    assert "does not support bf16. Make the bundle for fp32, or for int8 with" in result.err
    path = compiled(tiny, "openvino-int8", tmp_path)
    assert open_bundle(path).target.options["floats"] == "fp32"
    assert set(load(path).step.executed()["products"]) == {"u8", "f32"}


@pytest.mark.usefixtures("bf16")
def test_a_bundle_of_bf16_is_refused_on_a_cpu_without_it(
        tiny: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = compiled(tiny, "openvino-bf16", tmp_path)
    monkeypatch.setattr(backend, "has_bf16", lambda core, device: False)
    result = call("parity", path, "--golden")
    assert (result.code, "does not support bf16" in result.err) == (3, True)


def test_a_device_that_is_not_there_is_named_with_those_that_are(tiny: Path, tmp_path: Path) -> None:
    text = (ROOT / "targets" / "openvino-fp32.toml").read_text("utf-8")
    mine = tmp_path / "mine.toml"
    mine.write_text(text.replace("[openvino]", '[openvino]\ndevice = "GPU.7"'))
    result = call("openvino", "--fp32", "--target", mine, "--output", output_with(tiny, tmp_path))
    assert result.code == 3
    assert re.search(r"OpenVINO finds no device GPU\.7 on this machine; it finds .*CPU", result.err)


def test_a_bundle_for_the_cpu_does_not_load_the_code_of_other_devices() -> None:
    class Core:
        @property
        def available_devices(self) -> list[str]:
            pytest.fail("asked for all devices, which loads the code for each")

    backend.check_device(Core(), "CPU", "fp32")
    with pytest.raises(pytest.fail.Exception):
        backend.check_device(Core(), "GPU", "fp32")


@pytest.mark.parametrize(("now", "then", "words"), [
    ('[openvino]', "[openvino]\nweights = 'int4'", "weights is 'int4', expected fp32 or fp16"),
    ('[openvino]', "[openvino]\nturbo = true", "unknown key 'turbo'"),
    ('[openvino]', "[tensorrt]", "unknown key 'tensorrt'"),
    ('precision = "int8"', 'precision = "fp16"', "expected int8 with a table [quantization]"),
    ('[gates]', 'scheme = "onnxruntime"\n[gates]', "scheme is 'onnxruntime', expected \"qdq\", the only"),
    ('[gates]', 'method = "dynamic"\n[gates]', "method is 'dynamic', expected \"static\", the only")])
def test_a_target_that_openvino_cannot_take_says_which_key(
        tiny: Path, tmp_path: Path, now: str, then: str, words: str) -> None:
    text = (ROOT / "targets" / "openvino-int8.toml").read_text("utf-8")
    mine = tmp_path / "mine.toml"
    assert now in text
    mine.write_text(text.replace(now, then))
    result = call("openvino", "--target", mine, "--output", output_with(tiny, tmp_path))
    assert (result.code, words in result.err) == (4, True), result.err


@pytest.mark.parametrize(("arguments", "words"), [
    (("--fp32", "--int8"), "--fp32 and --int8: choose one"),
    (("--fp32", "--target", "openvino-int8"), "is int8, --fp32 asks for fp32"),
    (("--target", "cpu-int8"), "is for onnxruntime; this command writes for openvino"),
    (("--fp32", "--ranges", "entropy"), "--ranges applies only to int8"),
    (("--fp32", "--calibration", "esc50"), "this bundle needs no calibration")])
def test_wrong_use_is_named(tiny: Path, tmp_path: Path, arguments: tuple[str, ...], words: str) -> None:
    result = call("openvino", *arguments, "--output", output_with(tiny, tmp_path))
    assert (result.code, words in result.err) == (2, True), result.err
