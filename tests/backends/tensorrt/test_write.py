"""`satexport trt` on a workstation from the user's view, and the graphs that it writes for TensorRT."""

from __future__ import annotations

import json
import zipfile
from collections import Counter
from pathlib import Path
from typing import NamedTuple

import numpy as np
import onnx
import pytest
from onnx import TensorProto, numpy_helper

from satexport.backends.backend import LoadOptions, find_backend
from satexport.backends.onnxruntime.step import OnnxRuntimeStep
from satexport.backends.tensorrt import half as tensorrt_graph
from satexport.backends.tensorrt import write as tensorrt_bundle
from satexport.backends.tensorrt.build import build_engine
from satexport.backends.tensorrt.rules import check_rules, find_violations
from satexport.backends.tensorrt.settings import TensorRtSettings
from satexport.bundle.contract import GraphOptions
from satexport.bundle.folder import open_bundle
from satexport.bundle.target import Quantization
from satexport.errors import MissingError, RunError
from satexport.graph.roles import Graph
from satexport.models.checkpoint import load_checkpoint
from satexport.models.families import find_variant
from satexport.pipeline.export import export_onnx
from satexport.quantize.factors import _choose_scale, _quantize_weight
from satexport.step import FloatArray
from satexport.tagging.stream import StreamBatch
from satexport.tagging.tagger import load
from satexport.targets import find_target
from tests.bundle.copies import content, graph_of, manifest_of, output_with
from tests.commands.calls import Result, call
from tests.lean import FILES, TRAINING, python
from tests.machine import need
from tests.tiny import SAT, SAT_2S


class Made(NamedTuple):
    """The bundle and the output of `satexport trt --int8`."""

    output: Path
    path: Path
    result: Result


@pytest.fixture(scope="module")
def made(demo: Path, quick: tuple[object, ...], tmp_path_factory: pytest.TempPathFactory) -> Made:
    output = output_with(demo, tmp_path_factory.mktemp("trt"))
    result = call("trt", "--int8", "--output", output, *quick)
    return Made(output, output / "sat-t-2s" / "jetson-orin-nano", result)


def test_a_build_bundle_is_made_and_proven_without_a_gpu(made: Made) -> None:
    assert made.result.code == 0, made.result.err
    assert "No engine was built: that happens on the board" in made.result.err
    assert set(manifest_of(made.path)["files"]) == {
        "int8.onnx", "fp16.onnx", "build.sh", "runtime.zip", "golden_graphs.npz", "initial_cache.npy",
        "labels.txt", "golden.npz", "calibration.json"}
    for precision, kept, largest in (("int8", 0.99, 0.25), ("fp16", 0.99, 0.005)):
        report = json.loads((made.path / "reports" / f"parity-onnx-{precision}.json").read_bytes())
        assert report["verdict"] == "passed"
        assert report["graph"] == f"{precision}.onnx"
        assert report["labelled_set"]["bundle_map"] >= kept * report["labelled_set"]["pytorch_map"]
        assert 1e-5 < report["differences"]["0.1 min of stream"]["largest"] < largest
        gate = next(gate for gate in report["gates"] if gate["name"] == "mAP kept")
        assert gate["limit"] == kept


def test_both_graphs_keep_every_rule_of_the_targets_tensorrt(made: Made) -> None:
    for precision in ("int8", "fp16"):
        model = onnx.load(made.path / f"{precision}.onnx")
        assert find_violations(Graph(model, open_bundle(made.path).roles), "10.3") == []
        kinds = Counter(node.op_type for node in model.graph.node)
        assert kinds["LayerNormalization"] == 27
        assert (kinds["DequantizeLinear"] > 100) == (precision == "int8")
        weights = [i for i in model.graph.initializer if i.name.partition("/")[0].endswith(".weight")]
        assert weights
        assert TensorProto.FLOAT not in {i.data_type for i in weights}


def test_a_graph_in_half_keeps_its_front_end_and_its_norms_in_fp32(made: Made) -> None:
    model = onnx.shape_inference.infer_shapes(onnx.load(made.path / "fp16.onnx"))
    dtypes = {v.name: v.type.tensor_type.elem_type for v in (
        *model.graph.value_info, *model.graph.input, *model.graph.output)}
    dtypes |= {i.name: i.data_type for i in model.graph.initializer}
    for node in model.graph.node:
        found = {dtypes[name] for name in (*node.input, *node.output) if dtypes.get(name) in (
            TensorProto.FLOAT, TensorProto.FLOAT16)}
        if node.op_type == "LayerNormalization" or node.name.startswith("mel/"):
            assert found == {TensorProto.FLOAT}, node.name
        elif node.op_type in ("MatMul", "Gemm", "Softmax", "Gelu"):
            assert found == {TensorProto.FLOAT16}, node.name
    contract = open_bundle(made.path).contract
    assert {dtypes[spec.name] for spec in (contract.input, *contract.outputs, *contract.cache_in,
                                           *contract.cache_out)} == {TensorProto.FLOAT}


def test_scales_in_fp16_never_clip_and_never_vanish() -> None:
    wanted = Quantization(scheme="qdq", symmetric=True, scales="fp16")
    weight = np.array([[0.5, 1e-9, 0.3337], [-0.25, 0, -0.1]], np.float32)
    codes, scale, zero = _quantize_weight(weight, 1, wanted)
    assert np.array_equal(scale, scale.astype(np.float16))
    assert (scale >= np.finfo(np.float16).tiny).all()
    assert (np.abs(weight) <= 127 * scale).all()
    np.testing.assert_allclose(codes * scale, weight, atol=float(scale.max()) / 2)
    assert not zero.any()
    found, zero = _choose_scale((-3.0, 1.0), wanted, signed=False)
    assert float(found) >= 3 / 127
    assert zero.dtype == np.int8


@pytest.mark.parametrize("options", [
    GraphOptions(cache="hidden"), GraphOptions(streams=3), GraphOptions(input="mel")],
    ids=lambda options: options.suffix)
def test_every_form_of_an_export_is_taken(options: GraphOptions, tmp_path: Path, audio: FloatArray) -> None:
    weights = load_checkpoint("random", find_variant(SAT, 2))
    source = open_bundle(export_onnx(weights, find_target("onnx"), tmp_path, options, use_onnxsim=False).path)
    graph = tensorrt_graph.to_fp16(graph_of(source))
    assert find_violations(graph, "10.3") == []
    step = OnnxRuntimeStep(graph.model.SerializeToString(), source.contract, source.initial_cache(),
                           optimized=False)
    sounds = audio[:options.streams * 96_000].reshape(options.streams, -1)
    expected = load(source.path).streams().feed(sounds)
    found = StreamBatch(step, source.contract, options.streams).feed(sounds)
    np.testing.assert_allclose(found, expected, atol=5e-3)
    assert not np.array_equal(found, expected)


def test_a_constant_too_large_for_fp16_is_named(tiny: Path) -> None:
    graph = graph_of(open_bundle(tiny))
    weight = next(i for i in graph.model.graph.initializer if i.name == "01.fc1.weight")
    weight.CopyFrom(numpy_helper.from_array(1e6 * numpy_helper.to_array(weight), weight.name))
    with pytest.raises(RunError, match=r"01\.fc1\.weight has values up to .*fp16 at most 65504"):
        tensorrt_graph.to_fp16(graph)


def test_a_broken_rule_leaves_no_bundle(
        tiny: Path, tmp_path: Path, quick: tuple[object, ...], monkeypatch: pytest.MonkeyPatch) -> None:
    output = output_with(tiny, tmp_path)
    monkeypatch.setattr(tensorrt_bundle, "check_rules", lambda graph, version: check_rules(
        Graph(_refused(graph.model), graph.roles), version))
    result = call("trt", "--fp16", "--output", output, *quick)
    assert (result.code, "breaks" in result.err) == (5, True), result.err
    assert [path.name for path in (output / SAT_2S).iterdir()] == ["onnx"]


def _refused(model: onnx.ModelProto) -> onnx.ModelProto:
    """A graph with a node that TensorRT rejects."""
    model.graph.node.add(op_type="DynamicQuantizeLinear", input=[model.graph.input[0].name],
                         output=["a", "b", "c"], name="bad")
    return model


def test_fp16_alone_has_no_twin_and_a_name_of_its_own(
        tiny: Path, tmp_path: Path, quick: tuple[object, ...]) -> None:
    output = output_with(tiny, tmp_path)
    result = call("trt", "--fp16", "--output", output, "--json", *quick)
    assert result.code == 0, result.err
    reply = json.loads(result.out)
    assert reply["bundle"].endswith(f"{SAT_2S}/jetson-orin-nano-fp16")
    assert (reply["twins"], reply["measure"]) == ({}, None)
    assert not (Path(reply["bundle"]) / "int8.onnx").exists()


@pytest.mark.parametrize("precision", ["int8", "fp16"])
def test_the_rtx_compile_check_takes_both_graphs_of_a_jetson(made: Made, precision: str) -> None:
    trt = need("tensorrt_rtx", "trt")
    wanted = TensorRtSettings.of(find_target("jetson-orin-nano"))
    engine = build_engine(trt, made.path / f"{precision}.onnx", wanted, ("8.6",))
    assert len(engine) > 1_000_000


def test_what_tensorrt_cannot_read_is_an_error_with_its_words(made: Made, tmp_path: Path) -> None:
    trt = need("tensorrt_rtx", "trt")
    wanted = TensorRtSettings.of(find_target("rtx"))
    (tmp_path / "bad.onnx").write_bytes(b"no graph")
    with pytest.raises(RunError, match=r"cannot read bad\.onnx: "):
        build_engine(trt, tmp_path / "bad.onnx", wanted, ("8.6",))
    model = _refused(onnx.load(made.path / "fp16.onnx"))
    onnx.save(model, tmp_path / "dynamic.onnx")
    with pytest.raises(RunError, match=r"cannot read dynamic\.onnx: .*DynamicQuantizeLinear"):
        build_engine(trt, tmp_path / "dynamic.onnx", wanted, ("8.6",))


def test_rtx_makes_an_engine_for_desktop_gpus(
        tiny: Path, tmp_path: Path, quick: tuple[object, ...]) -> None:
    need("tensorrt_rtx", "trt")
    output = output_with(tiny, tmp_path)
    result = call("trt", "--rtx", "--output", output, *quick)
    assert result.code == 0, result.err
    assert "RTX compile check: passed" in result.out
    path = output / SAT_2S / "rtx"
    record = json.loads((path / "engine.json").read_bytes())
    assert record["compute_capability"] == ["8.6", "8.9", "12.0", "12.1"]
    assert record["bundle_sha256"] == open_bundle(path).sha256
    assert (path / record["engine"]).stat().st_size == json.loads(
        (path / "reports" / "rtx.json").read_bytes())["engine_bytes"]
    result = call("run", path, "nothing.wav")
    assert result.code == 3, result.err  # no GPU here
    assert "CUDA" in result.err


def test_an_engine_needs_tensorrt_and_a_gpu_which_is_said_before_the_work(
        tiny: Path, tmp_path: Path, made: Made) -> None:
    output = output_with(tiny, tmp_path)
    for arguments in (("--int8", "--engine", "--output", output), ("--build", made.path)):
        result = call("trt", *arguments)
        assert (result.code, "the package tensorrt is not installed" in result.err) == (3, True), result.err
    assert [path.name for path in (output / SAT_2S).iterdir()] == ["onnx"]


def test_a_build_bundle_that_has_no_engine_yet_says_how_to_get_one(made: Made) -> None:
    before = content(made.path)
    for command in (("parity", made.path, "--golden"), ("run", made.path, "a.wav"), ("measure", made.path)):
        result = call(*command)
        assert result.code == 3, result.err
        assert "build.sh" in result.err
    with pytest.raises(MissingError, match="no engine"):
        load(made.path)
    assert content(made.path) == before


def test_the_runtime_in_the_bundle_needs_numpy_alone(made: Made, tmp_path: Path) -> None:
    assert all(name.endswith(".py") for name in zipfile.ZipFile(made.path / "runtime.zip").namelist())
    program = """
sys.path.insert(0, sys.argv[1])
import satexport.pipeline.board
assert satexport.__file__.startswith(sys.argv[1]), satexport.__file__
sys.stderr = sys.stdout
assert satexport.pipeline.board.main([sys.argv[2]]) == 3
"""
    said = python(program, made.path / "runtime.zip", made.path,
                  without=(*TRAINING, *FILES, "onnxruntime", "openvino", "click", "rich", "tensorrt"))
    assert said.startswith("Error: the package tensorrt is not installed: on a Jetson it comes with JetPack")


def test_the_twin_is_held_to_its_own_limit(made: Made) -> None:
    candidates = find_backend("tensorrt").candidates(open_bundle(made.path), LoadOptions(threads=1))
    limits = {precision: candidate.gates.map_kept for precision, candidate in candidates.items()}
    assert limits == {"int8": 0.99, "fp16": 0.99}
