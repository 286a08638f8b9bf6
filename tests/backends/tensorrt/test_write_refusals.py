"""What `satexport trt` refuses before any work."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from satexport.bundle.contract import GraphOptions
from satexport.bundle.folder import open_bundle
from satexport.errors import UsageError
from satexport.models.checkpoint import load_checkpoint
from satexport.models.families import find_variant
from satexport.pipeline.build import compile_bundle
from satexport.pipeline.export import export_onnx
from satexport.pipeline.plan import BuildOptions
from satexport.targets import find_target
from tests import ROOT
from tests.bundle.copies import output_with
from tests.commands.calls import call
from tests.tiny import FEW, SAT, SAT_2S


@pytest.mark.parametrize(("arguments", "words"), [
    (("--int8", "--fp16"), "--int8 and --fp16: choose one"),
    (("--target", "cpu-int8"), "is for onnxruntime; this command writes for tensorrt"),
    (("--target", "rtx"), "is for tensorrt_rtx: add --rtx"),
    (("--rtx", "--target", "jetson-thor"), "is for tensorrt: leave --rtx out"),
    (("--rtx", "--int8"), "target rtx is fp16, --int8 asks for int8"),
    (("--fp16", "--ranges", "entropy"), "--ranges applies only to int8"),
    (("--rtx", "--engine"), "--rtx always makes an engine"),
    (("--build", "b", "--int8"), "--build uses a finished bundle"),
    (("--build", "b", "--minutes", "3"), "--build uses a finished bundle")])
def test_wrong_use_is_named(tiny: Path, tmp_path: Path, arguments: tuple[str, ...], words: str) -> None:
    result = call("trt", *arguments, "--output", output_with(tiny, tmp_path))
    assert (result.code, words in result.err) == (2, True), result.err


@pytest.mark.parametrize(("now", "then", "words"), [
    ("[budgets]", "[quantization]\nsymmetric = false\n[budgets]",
     "symmetric is False, expected true, the only value that the backend tensorrt supports"),
    ("[budgets]", "[quantization]\nscales = 'fp32'\n[budgets]", "scales is 'fp32', expected \"fp16\""),
    ("[budgets]", "[quantization]\noperators = ['attention']\n[budgets]", "no attention, which TensorRT"),
    ("[budgets]", "[quantization]\nmethod = 'dynamic'\n[budgets]", "method is 'dynamic', expected"),
    ('version = "10.3"', 'version = "8.5"', "TensorRT 8 (JetPack 5) has neither strong typing"),
    ("workspace_mb = 1000", "workspace_mb = 1", "workspace_mb is 1, expected 16 to half of memory_mb"),
    ("workspace_mb = 1000", "workspace_mb = 6000", "workspace_mb is 6000, expected 16 to half of memory_mb"),
    ("[tensorrt]", "precision = 'bf16'\n[tensorrt]", "expected int8 with a table"),
    ("[tensorrt]", "[openvino]\n[tensorrt]", "unknown key 'openvino'"),
    ('compute_capability = ["8.7"]', "compute_capability = [8.7]", "expected a list of strings")])
def test_a_target_that_tensorrt_cannot_take_says_which_key(
        tiny: Path, tmp_path: Path, now: str, then: str, words: str) -> None:
    text = (ROOT / "targets" / "jetson-orin-nano.toml").read_text("utf-8")
    assert now in text
    (tmp_path / "mine.toml").write_text(text.replace(now, then))
    result = call("trt", "--target", tmp_path / "mine.toml", "--output", output_with(tiny, tmp_path))
    assert (result.code, words in result.err) == (4, True), result.err


def test_any_number_of_streams_is_refused_for_an_engine_has_fixed_shapes(tmp_path: Path) -> None:
    weights = load_checkpoint("random", find_variant(SAT, 2))
    options = GraphOptions(streams=-1)
    source = export_onnx(weights, find_target("onnx"), tmp_path, options, use_onnxsim=False).path
    with pytest.raises(UsageError, match="an engine has fixed shapes: export with --streams N"):
        compile_bundle(open_bundle(source), find_target("jetson-orin-nano"), tmp_path,
                       BuildOptions(calibration=FEW))


def test_rtx_without_its_package_says_what_to_install_before_the_work(
        tiny: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "tensorrt_rtx", None)
    output = output_with(tiny, tmp_path)
    result = call("trt", "--rtx", "--output", output)
    assert (result.code, "pip install 'satexport[trt]'" in result.err) == (3, True), result.err
    assert [path.name for path in (output / SAT_2S).iterdir()] == ["onnx"]


@pytest.mark.parametrize("opset", [18, 21])
def test_an_opset_that_tensorrt_does_not_read_is_refused(
        opset: int, tmp_path: Path, quick: tuple[object, ...]) -> None:
    weights = load_checkpoint("random", find_variant(SAT, 2))
    source = export_onnx(weights, find_target("onnx"), tmp_path, opset=opset, use_onnxsim=False).path
    result = call("trt", "--fp16", "--from", source, "--output", tmp_path, *quick)
    words = f"has opset {opset}, but TensorRT needs 19 or 20"
    assert (result.code, words in result.err) == (2, True), result.err
    assert not (tmp_path / SAT_2S / "jetson-orin-nano-fp16").exists()
