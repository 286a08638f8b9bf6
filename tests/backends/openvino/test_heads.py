"""Products of queries, keys and values that become one."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from satexport.backends.openvino.heads import WIDEST, join_heads
from satexport.step import FloatArray
from tests.machine import need

need("openvino", "openvino")

TOKENS = 6


def attention_parts(heads: int = 2, size: int = 4, streams: int = 1, deviation: str = "") -> Any:
    """A model: tokens [streams * 6, 8] -> queries of `heads` heads with a bias, and keys and values of twice
    as many without. `deviation` is one of those that are tested below."""
    import openvino
    from openvino import opset13 as op

    rng, others = np.random.default_rng(0), list[Any]()
    x = op.parameter([streams * TOKENS, 8], np.float32)
    low, high = op.constant(np.float32(0)), op.constant(np.float32(1.7))
    fake = op.fake_quantize(x, low, high, low, high, 256)

    def split(count: int, bias: bool) -> Any:
        whole = op.constant(rng.integers(-127, 128, (8, count * size)).astype(np.int8))
        shape = (8, 1) if deviation == "scales of rows" else (1, count * size)
        scale = op.constant(rng.uniform(0.01, 0.02, shape).astype(np.float32))
        if deviation == "float weights":
            whole = op.constant(rng.standard_normal((8, count * size)).astype(np.float32))
        floats = whole if deviation == "float weights" else op.convert(whole, "f32")
        tokens = op.relu(fake) if deviation == "other tokens" and bias else fake
        tokens.set_friendly_name("tokens")  # which OpenVINO lets several nodes have
        rows = op.matmul(tokens, op.multiply(floats, scale), False, False)
        others.extend([op.relu(rows)] if deviation == "read twice" else [])
        if bias:
            rows = op.add(rows, op.constant(rng.standard_normal(count * size).astype(np.float32)))
        split_shape = op.constant(np.array([-1, TOKENS, count, size]))
        return op.transpose(op.reshape(rows, split_shape, False), op.constant(np.array([0, 2, 1, 3])))

    return openvino.Model([split(heads, True), split(2 * heads, False), *others], [x])


def run(model: Any) -> list[FloatArray]:
    import openvino

    compiled = openvino.Core().compile_model(model, "CPU", {"INFERENCE_PRECISION_HINT": "f32"})
    x = np.random.default_rng(1).uniform(0, 2, compiled.inputs[0].get_shape()).astype(np.float32)
    return list(compiled(x).values())


def products(model: Any) -> int:
    return sum(node.get_type_name() == "MatMul" for node in model.get_ops())


def test_queries_keys_and_values_of_one_product_are_the_same() -> None:
    model = attention_parts()
    expected = run(model)
    assert join_heads(model) == 1
    assert products(model) == 1
    for array, wanted in zip(run(model), expected, strict=True):
        np.testing.assert_allclose(array, wanted, atol=1e-6)


@pytest.mark.parametrize(("size", "streams"), [(WIDEST // 6 + 1, 1), (4, 2)], ids=["wide", "two streams"])
def test_products_that_would_not_gain_stay(size: int, streams: int) -> None:
    model = attention_parts(size=size, streams=streams)
    assert join_heads(model) == 0
    assert products(model) == 2


@pytest.mark.parametrize("deviation", ["scales of rows", "float weights", "other tokens", "read twice"])
def test_products_of_another_form_stay(deviation: str) -> None:
    model = attention_parts(deviation=deviation)
    assert join_heads(model) == 0
    assert products(model) == 2
