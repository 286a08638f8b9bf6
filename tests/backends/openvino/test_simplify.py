"""Nodes that OpenVINO reads from ONNX are merged, and compute the same."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from onnx import NodeProto, TensorProto, helper, numpy_helper

from satexport.backends.openvino.simplify import simplify
from tests.machine import need

need("openvino", "openvino")

WIDTH = 4
Arrays = dict[str, NDArray[Any]]


def read(nodes: Sequence[NodeProto], constants: Arrays, rank: int = 2) -> Any:
    """Return what OpenVINO reads from a graph x [3, WIDTH] -> y of this rank."""
    import openvino

    x, y = (helper.make_tensor_value_info(name, TensorProto.FLOAT, shape)
            for name, shape in (("x", (3, WIDTH)), ("y", (None,) * rank)))
    weights = [numpy_helper.from_array(array, name) for name, array in constants.items()]
    graph = helper.make_graph(nodes, "graph", [x], [y], weights)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=9)
    return openvino.Core().read_model(model.SerializeToString())


def run(model: Any) -> NDArray[np.float32]:
    import openvino

    compiled = openvino.Core().compile_model(model, "CPU", {"INFERENCE_PRECISION_HINT": "f32"})
    x = np.random.default_rng(0).uniform(-2, 3, (3, WIDTH)).astype(np.float32)
    return np.array(compiled(x)[0])


def kinds_after(model: Any) -> Counter[str]:
    """Simplify a model, which must give the same as before, and count its operators."""
    expected = run(model)
    simplify(model)
    np.testing.assert_allclose(run(model), expected, rtol=0, atol=1e-5)
    return Counter(node.get_type_name() for node in model.get_ops())


def node(kind: str, result: str, *inputs: str, **attributes: Any) -> NodeProto:
    return helper.make_node(kind, inputs, [result], result, **attributes)


@pytest.mark.parametrize("dtype", [np.uint8, np.int8])
@pytest.mark.parametrize("other", [0, 3])
def test_a_quantisation_and_its_dequantisation_are_one_node(dtype: type[np.generic], other: int) -> None:
    """The dequantisation may have another zero point and scale."""
    zero = np.array(100 if dtype is np.uint8 else -28, dtype)
    constants = {"scale": np.float32(0.02), "zero": zero, "scale2": np.float32(0.02 + other / 100),
                 "zero2": np.array(int(zero) + other, dtype)}
    kinds = kinds_after(read([node("QuantizeLinear", "q", "x", "scale", "zero"),
                              node("DequantizeLinear", "y", "q", "scale2", "zero2")], {
        name: np.asarray(array) for name, array in constants.items()}))
    assert kinds == {"Parameter": 1, "Result": 1, "FakeQuantize": 1, "Constant": 4}


@pytest.mark.parametrize(("zero", "subtractions"), [(0, 0), (5, 1)])
def test_weights_lose_a_zero_point_only_if_it_is_0(zero: int, subtractions: int) -> None:
    weights = np.random.default_rng(1).integers(-100, 100, (WIDTH, 5), np.int8)
    scales = np.linspace(0.01, 0.02, 5, dtype=np.float32)
    kinds = kinds_after(read([node("DequantizeLinear", "w", "weights", "scales", "zeros", axis=1),
                              node("MatMul", "y", "x", "w")], {
        "weights": weights, "scales": scales, "zeros": np.full(5, zero, np.int8)}))
    assert (kinds["Subtract"], kinds["MatMul"]) == (subtractions, 1)


@pytest.mark.parametrize(("factor", "rank", "products"), [
    (np.ones(WIDTH, np.float32), 2, 0), (np.ones((3, 1), np.float32), 2, 0),
    (np.full(WIDTH, 2, np.float32), 2, 1), (np.array([1, 1, 1, 2], np.float32), 2, 1),
    (np.ones((2, 1, 1), np.float32), 3, 1)])
@pytest.mark.parametrize("is_first", [True, False])
def test_only_a_product_with_ones_that_keeps_the_shape_is_left_out(
        factor: NDArray[np.float32], rank: int, products: int, is_first: bool) -> None:
    inputs = ("factor", "x") if is_first else ("x", "factor")
    kinds = kinds_after(read([node("Mul", "product", *inputs), node("Relu", "y", "product")],
                             {"factor": factor}, rank))
    assert kinds["Multiply"] == products


def test_the_axes_of_a_normalisation_are_a_constant() -> None:
    scale, bias = np.linspace(1, 2, WIDTH, dtype=np.float32), np.linspace(0, 1, WIDTH, dtype=np.float32)
    kinds = kinds_after(read([node("LayerNormalization", "y", "x", "scale", "bias", axis=-1)], {
        "scale": scale, "bias": bias}))
    assert (kinds["MVN"], kinds["Range"]) == (1, 0)
