"""BEATs for every backend: its products become int8, and it is proven like the other families."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import onnx
import pytest

from satexport.backends.tensorrt.build import build_engine
from satexport.backends.tensorrt.rules import find_violations
from satexport.backends.tensorrt.settings import TensorRtSettings
from satexport.bundle.folder import open_bundle
from satexport.graph.roles import Graph
from satexport.pipeline.build import compile_bundle
from satexport.pipeline.plan import BuildOptions
from satexport.tagging.tagger import load
from satexport.targets import find_target
from tests.commands.calls import call
from tests.machine import need
from tests.models.beats.vectors import TINY, wave
from tests.tiny import FEW, export

PRODUCTS = 14  # six per block, the layer after the patches and the position code


@pytest.fixture(scope="module")
def beats(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The export of a small BEATs with random weights at 2 s."""
    return export(tmp_path_factory.mktemp("beats"), TINY, 2, "random")


@pytest.mark.parametrize(("target", "package", "limit"), [
    ("cpu-int8", "onnxruntime", 0.25), ("openvino-fp32", "openvino", 1e-4),
    ("openvino-int8", "openvino", 0.25)], ids=str)
def test_a_beats_is_built_and_proven_for_a_runtime(
        target: str, package: str, limit: float, beats: Path, quick: tuple[object, ...]) -> None:
    need(package, "cpu")
    result = call("bundle", "--target", target, "--from", beats, "--output", beats.parents[1], *quick)
    assert result.code in (0, 1), result.err  # random weights: int8 may cost mAP
    built, audio = load(beats.parent / target), wave(10)[0]
    assert built.bundle.int8_layers() == (PRODUCTS if "int8" in target else 0)
    expected = load(beats).stream().feed(audio)
    assert np.abs(built.stream().feed(audio) - expected).max() < limit
    report = json.loads((beats.parent / target / "reports" / "parity.json").read_text("utf-8"))
    assert report["differences"]["0.1 min of stream"]["largest"] < limit


@pytest.fixture(scope="module")
def jetson(beats: Path, quick: tuple[object, ...]) -> Path:
    """The bundle with the graphs of that export for TensorRT."""
    result = call("trt", "--int8", "--from", beats, "--output", beats.parents[1], *quick)
    assert result.code in (0, 1), result.err
    return beats.parent / "jetson-orin-nano"


def test_the_tensorrt_graphs_of_a_beats_follow_its_rules_and_are_proven(jetson: Path) -> None:
    for precision, largest in (("int8", 0.25), ("fp16", 0.02)):
        model = onnx.load(jetson / f"{precision}.onnx")
        assert find_violations(Graph(model, open_bundle(jetson).roles), "10.3") == []
        report = json.loads((jetson / "reports" / f"parity-onnx-{precision}.json").read_bytes())
        assert report["differences"]["0.1 min of stream"]["largest"] < largest


def compile_for_rtx(path: Path) -> None:
    trt = need("tensorrt_rtx", "trt")
    settings = TensorRtSettings.of(find_target("jetson-orin-nano"))
    for precision in ("int8", "fp16"):
        assert len(build_engine(trt, path / f"{precision}.onnx", settings, ("8.6",))) > 1000


def test_tensorrt_for_rtx_compiles_both_graphs(jetson: Path) -> None:
    compile_for_rtx(jetson)


@pytest.mark.long
@pytest.mark.parametrize("delay", [2, 10])
def test_tensorrt_for_rtx_compiles_both_graphs_of_the_published_size(delay: int, tmp_path: Path) -> None:
    need("tensorrt_rtx", "trt")
    source = export(tmp_path, "beats", delay, "random", use_onnxsim=False)
    compile_for_rtx(compile_bundle(open_bundle(source), find_target("jetson-orin-nano"), tmp_path,
                                   BuildOptions(calibration=FEW)).path)
