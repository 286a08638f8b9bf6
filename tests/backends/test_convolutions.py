"""Bundles of a MobileNet: what is computed in which precision, and what TensorRT makes of the graphs."""

from __future__ import annotations

from operator import itemgetter
from pathlib import Path

import numpy as np
import onnx
import pytest

from satexport.backends.backend import LoadOptions, find_backend
from satexport.backends.openvino.step import OpenVinoStep
from satexport.bundle.contract import GraphOptions
from satexport.bundle.folder import Bundle, open_bundle
from satexport.bundle.roles import FRONT
from satexport.parity.differences import compare_embeddings
from satexport.parity.golden import golden_outputs, proof_streams
from satexport.pipeline.build import compile_bundle
from satexport.pipeline.plan import BuildOptions
from satexport.targets import find_target
from tests.machine import need, on_this_cpu
from tests.tiny import FEW, export


@pytest.fixture(scope="module")
def mobilenet(build: Path) -> Bundle:
    """The smallest MobileNet, with random weights and the embedding that reads the most of its maps."""
    return open_bundle(export(build, "mn01", 1, "random", GraphOptions(embedding="mb+l")))


def compile_for(mobilenet: Bundle, target: str, folder: Path) -> Bundle:
    return open_bundle(compile_bundle(mobilenet, find_target(target), folder,
                                      BuildOptions(calibration=FEW)).path)


@pytest.fixture(scope="module")
def jetson(mobilenet: Bundle, tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    """Its bundle for a Jetson; making it fails if a graph breaks a rule of TensorRT."""
    return compile_for(mobilenet, "jetson-orin-nano", tmp_path_factory.mktemp("jetson"))


def difference(mobilenet: Bundle, step: object) -> float:
    """The largest difference from PyTorch over the golden chunks: of a score, or relative of an embedding."""
    audio, expected = mobilenet.golden()
    streams = proof_streams(step, mobilenet.contract)  # type: ignore[arg-type]
    found = golden_outputs(streams, audio).map(itemgetter(0))
    embeddings = compare_embeddings(expected, found)
    assert embeddings
    return max(float(np.abs(found.scores - expected.scores).max()), embeddings.worst_difference)


@pytest.mark.parametrize("target", ["openvino-fp32", "openvino-bf16", "openvino-int8"])
def test_openvino_computes_the_front_end_in_fp32_and_the_products_as_the_target_says(
        mobilenet: Bundle, tmp_path: Path, target: str, request: pytest.FixtureRequest) -> None:
    need("openvino", "openvino")
    if target == "openvino-bf16":
        request.getfixturevalue("bf16")
    bundle = compile_for(mobilenet, on_this_cpu(target), tmp_path)
    step = find_backend("openvino").load(bundle, LoadOptions(threads=1))
    assert isinstance(step, OpenVinoStep)
    executed = step.executed()
    assert list(executed["front end"]) == ["f32"]
    marked = {name for name, role in mobilenet.roles.items() if role.kind == FRONT}
    assert len(step._front_end) >= 0.9 * len(marked)
    if target == "openvino-int8":
        assert sum(executed["products"].get(kind, 0) for kind in ("u8", "i8")) >= int8_products(bundle)
    assert difference(mobilenet, step) < {"openvino-fp32": 1e-4}.get(target, 0.2)


def int8_products(bundle: Bundle) -> int:
    """Convolutions over all channels and linear products of the bundle's model."""
    layers = {(role.kind, role.layer) for role in bundle.roles.values()}
    return sum(kind in ("conv", "linear") for kind, _ in layers)


def test_onnxruntime_runs_every_convolution_of_the_target_in_int8(mobilenet: Bundle, tmp_path: Path) -> None:
    bundle = compile_for(mobilenet, "cpu-int8", tmp_path)
    nodes = onnx.load(bundle.graph, load_external_data=False).graph.node
    integer = [node for node in nodes if node.op_type in ("QLinearConv", "MatMulIntegerToFloat")]
    assert len(integer) == int8_products(bundle)
    step = find_backend("onnxruntime").load(bundle, LoadOptions(threads=1))
    assert difference(mobilenet, step) < 0.2


def test_tensorrts_graphs_keep_the_rules_and_score_like_pytorch(mobilenet: Bundle, jetson: Bundle) -> None:
    steps = find_backend("tensorrt").candidates(jetson, LoadOptions(threads=1))
    assert set(steps) == {"int8", "fp16"}
    assert difference(mobilenet, steps["fp16"].step) < 0.05
    assert difference(mobilenet, steps["int8"].step) < 0.2


def test_tensorrt_for_rtx_compiles_the_graphs(jetson: Bundle) -> None:
    trt = need("tensorrt_rtx", "trt")
    from satexport.backends.tensorrt.build import build_engine
    from satexport.backends.tensorrt.settings import TensorRtSettings

    settings = TensorRtSettings.of(find_target("rtx"))
    for graph in ("int8.onnx", "fp16.onnx"):
        assert len(build_engine(trt, jetson.path / graph, settings, settings.compute_capability)) > 1000
