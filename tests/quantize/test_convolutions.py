"""Convolutions in int8: a small network with every kind of convolution, under each runtime."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from satexport.backends.onnxruntime.step import EXACT
from satexport.backends.tensorrt.half import to_fp16
from satexport.backends.tensorrt.rules import find_violations
from satexport.bundle.roles import Role
from satexport.bundle.target import Quantization
from satexport.errors import DataError, RunError
from satexport.graph.roles import Graph
from satexport.graph.writer import Writer
from satexport.origin import read_cpu
from satexport.quantize import equalize as equalize_module
from satexport.quantize.equalize import equalize
from satexport.quantize.int8 import quantize
from satexport.quantize.observe import Sample
from satexport.quantize.products import count_weight_products, find_layers
from satexport.quantize.ranges import find_ranges
from satexport.runtimes import import_runtime
from satexport.step import FloatArray
from tests.machine import need, weight_bits

KINDS = ("patch", "conv", "depthwise", "linear", "head")
EVERY = Quantization(operators=KINDS)
CONV = Quantization(operators=("conv", "linear"))
QDQ = replace(EVERY, scheme="qdq")
TENSORRT = replace(EVERY, scheme="qdq", symmetric=True, scales="fp16")
LARGE = 40.0
LAYERS = ["00.conv", "01.expand", "01.depthwise", "01.squeeze", "01.excite", "01.project", "head"]


class Network:
    """Writes a convolution, an inverted residual block with squeeze-and-excitation, and a head."""

    def __init__(self) -> None:
        self.g, self.random = Writer(20), np.random.default_rng(3)

    def convolve(self, kind: str, name: str, x: str, shape: tuple[int, ...], **attributes: Any) -> str:
        g, width = self.g, float(np.prod(shape[1:]))
        with g.role(kind, name):
            weight = g.constant(f"{name}.weight", self.random.normal(0, width ** -0.5, shape))
            bias = g.constant(f"{name}.bias", self.random.normal(0, 0.1, shape[0]))
            return g.op("Conv", f"{name}/sum", x, weight, bias, kernel_shape=shape[2:],
                        pads=[shape[2] // 2] * 4, **attributes)

    def write(self) -> Graph:
        g = self.g
        x = g.op("Relu", "00/relu", self.convolve("patch", "00.conv", "x", (8, 1, 3, 3), strides=[2, 2]))
        y = g.op("Relu", "expand/relu", self.convolve("conv", "01.expand", x, (24, 8, 1, 1)))
        y = g.op("HardSwish", "swish", self.convolve("depthwise", "01.depthwise", y, (24, 1, 3, 3), group=24))
        z = self.convolve("linear", "01.squeeze", g.op("GlobalAveragePool", "pooled", y), (8, 24, 1, 1))
        z = self.convolve("linear", "01.excite", g.op("Relu", "squeeze/relu", z), (24, 8, 1, 1))
        y = g.op("Mul", "gated", y, g.op("Sigmoid", "gate", z))
        x = g.op("Add", "out", x, self.convolve("conv", "01.project", y, (8, 24, 1, 1)))
        x = g.reshape("embedding", g.op("GlobalAveragePool", "mean", x), 1, 8)
        with g.role("head"):
            x = g.op("MatMul", "head/product", x, g.constant("head.weight", self.random.normal(0, 1, (8, 5))))
        g.op("Sigmoid", "scores", x)
        graph = helper.make_graph(
            g.nodes, "network", [helper.make_tensor_value_info("x", TensorProto.FLOAT, [1, 1, 32, 40])],
            [helper.make_tensor_value_info("scores", TensorProto.FLOAT, [1, 5])], list(g.constants.values()))
        model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10)
        onnx.checker.check_model(model, full_check=True)
        return Graph(model, g.roles)


def scale(graph: Graph, constant: str, where: object, by: float) -> None:
    """Multiply a part of a constant."""
    found = next(i for i in graph.model.graph.initializer if i.name == constant)
    array = numpy_helper.to_array(found).copy()
    array[where] *= by
    found.CopyFrom(numpy_helper.from_array(array, constant))


@pytest.fixture(scope="module")
def network() -> Graph:
    return Network().write()


@pytest.fixture(scope="module")
def uneven() -> Graph:
    """The same with one large channel before the projection, which weighs it less."""
    graph = Network().write()
    for part in ("weight", "bias"):
        scale(graph, f"01.depthwise.{part}", 0, LARGE)
    for layer in ("01.project", "01.squeeze"):
        scale(graph, f"{layer}.weight", (slice(None), 0), 1 / LARGE)
    return graph


@pytest.fixture(scope="module")
def samples() -> list[Sample]:
    random = np.random.default_rng(1)
    return [{"x": random.normal(0, 1, (1, 1, 32, 40)).astype(np.float32)} for _ in range(16)]


def scores(model: onnx.ModelProto, samples: list[Sample], optimized: bool = True) -> FloatArray:
    runtime = import_runtime("onnxruntime")
    options = runtime.SessionOptions()
    options.log_severity_level = 4
    for key, value in EXACT.items() if read_cpu().saturates else ():
        options.add_session_config_entry(key, value)
    if not optimized:
        options.graph_optimization_level = runtime.GraphOptimizationLevel.ORT_DISABLE_ALL
    session = runtime.InferenceSession(model.SerializeToString(), options,
                                       providers=["CPUExecutionProvider"])
    return np.concatenate([session.run(None, sample)[0] for sample in samples])


def int8(graph: Graph, quantization: Quantization, samples: list[Sample],
         leave_out: tuple[str, ...] = ()) -> Graph:
    return quantize(graph, quantization, find_ranges(graph, quantization, samples), leave_out)


@pytest.mark.parametrize("quantization", [EVERY, replace(EVERY, symmetric=True), QDQ, TENSORRT,
                                          replace(EVERY, per_channel=False)],
                         ids=["onnxruntime", "symmetric", "qdq", "tensorrt", "per tensor"])
def test_convolutions_in_int8_score_like_float(network: Graph, samples: list[Sample],
                                               quantization: Quantization) -> None:
    model = int8(network, quantization, samples).model
    onnx.checker.check_model(model)
    for optimized in (True, False):
        if not optimized:  # then 8-bit products saturate on a CPU without dot-product instructions
            model = int8(network, replace(quantization, weight_bits=weight_bits()), samples).model
        difference = np.abs(scores(model, samples, optimized) - scores(network.model, samples)).max()
        assert 1e-6 < difference < 0.03
    stored = {i.name: i.data_type for i in model.graph.initializer}
    assert all(stored[f"{layer}.int8"] == TensorProto.INT8 for layer in LAYERS)
    assert not [name for name in stored if name.endswith(".weight")]


@pytest.mark.parametrize("operators", [("conv", "depthwise"), KINDS], ids=str)
def test_dynamic_quantisation_takes_the_convolutions_of_a_target(
        network: Graph, samples: list[Sample], operators: tuple[str, ...]) -> None:
    wanted = Quantization(operators=operators, method="dynamic")
    model = quantize(network, wanted, {}, ()).model
    kinds = Counter(node.op_type for node in model.graph.node)
    assert kinds["ConvInteger"] + kinds["MatMulInteger"] == count_weight_products(network, wanted, ())
    assert 1e-6 < np.abs(scores(model, samples) - scores(network.model, samples)).max() < 0.03


def test_every_convolution_of_a_target_is_a_layer_and_a_product(network: Graph) -> None:
    assert find_layers(network, EVERY) == LAYERS
    assert count_weight_products(network, EVERY, ["01.project"]) == len(LAYERS) - 1
    assert find_layers(network, replace(EVERY, operators=("depthwise",))) == ["01.depthwise"]
    assert network.weights() == {f"{layer}.weight" for layer in LAYERS}


def test_onnxruntime_computes_relu_in_the_convolution_and_quantises_nothing_twice(
        network: Graph, samples: list[Sample]) -> None:
    graph = int8(network, EVERY, samples).model.graph
    kinds = Counter(node.op_type for node in graph.node)
    assert kinds["QLinearConv"] == 6
    assert not kinds["Conv"] + kinds["Relu"]
    quantised = [node.input[0] for node in graph.node if node.op_type == "QuantizeLinear"]
    assert quantised == ["x", "pooled", "gated", "embedding"]
    assert not {"00/relu", "expand/relu", "squeeze/relu"} & set(quantised)
    floats = {node.output[0] for node in graph.node if node.op_type == "DequantizeLinear"}
    assert "00/relu" in floats       # the residual reads it
    assert "expand/relu" not in floats  # only int8 convolutions do


def test_convolutions_that_are_left_out_stay_in_float(network: Graph, samples: list[Sample]) -> None:
    model = int8(network, EVERY, samples, ("01.depthwise", "01.squeeze")).model
    left = {node.name for node in model.graph.node if node.op_type == "Conv"}
    assert left == {"01.depthwise/sum", "01.squeeze/sum"}
    assert np.abs(scores(model, samples) - scores(network.model, samples)).max() < 0.03


def test_weights_of_convolutions_have_a_scale_per_output_channel(
        network: Graph, samples: list[Sample]) -> None:
    graph = int8(network, QDQ, samples).model.graph
    constants = {i.name: numpy_helper.to_array(i) for i in graph.initializer}
    weights = {i.name: numpy_helper.to_array(i) for i in network.model.graph.initializer}
    for layer in LAYERS[:-1]:
        weight, scale = weights[f"{layer}.weight"], constants[f"{layer}.scale"]
        assert scale.shape == weight.shape[:1]
        back = constants[f"{layer}.int8"] * scale[:, None, None, None]
        assert (np.abs(back - weight).max((1, 2, 3)) <= scale * 0.501).all()
        assert (np.abs(constants[f"{layer}.int8"]).max((1, 2, 3)) == 127).all()


@pytest.mark.parametrize("scheme", ["onnxruntime", "qdq"])
def test_a_quantised_convolution_is_not_quantised_again(
        network: Graph, samples: list[Sample], scheme: str) -> None:
    done = int8(network, replace(EVERY, scheme=scheme), samples)
    with pytest.raises(DataError, match="quantised already"):
        find_layers(done, EVERY)


def test_the_tensorrt_graph_keeps_the_rules(network: Graph, samples: list[Sample]) -> None:
    for graph in (network, int8(equalize(network, TENSORRT, samples), TENSORRT, samples)):
        assert find_violations(to_fp16(graph), "10.3") == []


def test_scales_on_a_wrong_axis_of_a_convolution_break_a_rule(
        network: Graph, samples: list[Sample]) -> None:
    graph = int8(network, TENSORRT, samples)
    node = next(n for n in graph.model.graph.node if n.output[0] == "01.excite.int8/float")
    next(a for a in node.attribute if a.name == "axis").i = 1
    found = {(v.node, v.rule) for v in find_violations(graph, "10.3")}
    assert ("01.excite/sum", "weights per output channel") in found


def test_openvino_computes_the_convolutions_in_int8(network: Graph, samples: list[Sample]) -> None:
    openvino = need("openvino", "openvino")
    quantization = replace(QDQ, operators=("conv", "linear"), weight_bits=weight_bits())
    model = int8(equalize(network, quantization, samples), quantization, samples).model
    core = openvino.Core()
    compiled = core.compile_model(core.read_model(model.SerializeToString()), "CPU", {
        "INFERENCE_PRECISION_HINT": "f32"})
    kinds = Counter(node.get_rt_info()["runtimePrecision"].astype(str)
                    for node in compiled.get_runtime_model().get_ops()
                    if node.get_rt_info()["layerType"].astype(str) == "Convolution")
    assert kinds["u8"] + kinds["i8"] == count_weight_products(network, quantization, ()) == 4
    found = np.concatenate([np.asarray(compiled(sample["x"])[0]) for sample in samples])
    assert np.abs(found - scores(network.model, samples)).max() < 0.05


def test_equalising_keeps_the_scores_and_makes_int8_more_accurate(
        uneven: Graph, samples: list[Sample]) -> None:
    expected = scores(uneven.model, samples)
    even = equalize(uneven, CONV, samples)
    assert np.abs(scores(even.model, samples) - expected).max() < 1e-5
    assert even.roles == uneven.roles
    before, after = (np.abs(scores(int8(graph, CONV, samples).model, samples) - expected).mean()
                     for graph in (uneven, even))
    assert after < 0.5 * before


def test_only_convolutions_in_int8_are_equalised_and_only_if_the_target_says_so(
        uneven: Graph, samples: list[Sample]) -> None:
    assert equalize(uneven, replace(CONV, equalize=False), samples) is uneven
    assert equalize(uneven, replace(CONV, operators=("head",)), samples) is uneven
    assert equalize(uneven, replace(CONV, method="dynamic"), samples) is uneven
    only_gate = equalize(uneven, replace(CONV, operators=("conv",)), samples)
    names = {i.name for i in only_gate.model.graph.initializer}
    assert "gate/equalized/factors" in names


def test_a_graph_whose_scores_move_is_refused(
        uneven: Graph, samples: list[Sample], monkeypatch: pytest.MonkeyPatch) -> None:
    rewrite = equalize_module._rewrite
    monkeypatch.setattr(equalize_module, "_rewrite", lambda model, weights, _: rewrite(model, weights, {}))
    with pytest.raises(RunError, match="moved an output by"):
        equalize(uneven, CONV, samples)


def test_roles_name_the_kind_of_convolution(network: Graph) -> None:
    kinds = {role.kind for role in network.roles.values()}
    assert kinds == set(KINDS)
    assert network.roles["01.depthwise/sum"] == Role("depthwise", "01.depthwise")
