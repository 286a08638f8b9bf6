"""Zero points of activations that become biases of products."""

from __future__ import annotations

from typing import Any

import numpy as np

from satexport.backends.openvino.zero_points import move_zero_points
from satexport.step import FloatArray
from tests.machine import need

need("openvino", "openvino")


def quantized_products(other_reader: bool = False) -> Any:
    """A model [3, 8] -> two products of one quantised activation: [3, 5] with a bias, and [5, 3] of the
    activation in another shape with transposed weights and no bias."""
    import openvino
    from openvino import opset13 as op

    rng = np.random.default_rng(0)

    def weights(*shape: int) -> Any:
        whole = op.constant(rng.integers(-127, 128, shape).astype(np.int8))
        return op.multiply(op.convert(whole, "f32"), op.constant(np.float32(0.01)))

    x = op.parameter([3, 8], np.float32)
    low, high = op.constant(np.float32(-0.3)), op.constant(np.float32(1.7))
    fake = op.fake_quantize(x, low, high, low, high, 256)
    first = op.add(op.matmul(fake, weights(8, 5), False, False),
                   op.constant(rng.standard_normal(5).astype(np.float32)))
    rows = op.reshape(fake, op.constant(np.array([6, 4])), False)
    second = op.matmul(rows, weights(3, 4), False, True)
    outputs = [first, second, *([op.relu(fake)] if other_reader else [])]
    return openvino.Model(outputs, [x])


def run(model: Any) -> list[FloatArray]:
    import openvino

    compiled = openvino.Core().compile_model(model, "CPU", {"INFERENCE_PRECISION_HINT": "f32"})
    x = np.random.default_rng(1).uniform(-0.5, 2, (3, 8)).astype(np.float32)
    return list(compiled(x).values())


def lowest(model: Any) -> float:
    """The lowest value that the model's quantisation gives."""
    (fake,) = (node for node in model.get_ops() if node.get_type_name() == "FakeQuantize")
    return float(fake.input_value(3).get_node().data)


def test_products_are_the_same_without_zero_points() -> None:
    model = quantized_products()
    expected = run(model)
    move_zero_points(model)
    assert lowest(model) == 0
    for array, wanted in zip(run(model), expected, strict=True):
        np.testing.assert_allclose(array, wanted, atol=1e-5)


def test_a_quantisation_that_another_node_reads_stays_as_it_is() -> None:
    model = quantized_products(other_reader=True)
    move_zero_points(model)
    assert lowest(model) < 0
