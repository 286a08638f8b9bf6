"""Zero points of activations that become biases of products."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from satexport.backends.openvino.zero_points import move_zero_points
from satexport.step import FloatArray
from tests.machine import need

need("openvino", "openvino")


def constant_weights(*shape: int) -> Any:
    """int8 weights with their scale."""
    from openvino import opset13 as op

    whole = op.constant(np.random.default_rng(0).integers(-127, 128, shape).astype(np.int8))
    return op.multiply(op.convert(whole, "f32"), op.constant(np.float32(0.01)))


def quantize(x: Any, low: object = np.float32(-0.3)) -> Any:
    from openvino import opset13 as op

    # both of one shape: of a range per feature with a single upper end, OpenVINO 2026.4.1 now and then makes
    # numbers such as 1e23
    ends = op.constant(low), op.constant(np.full_like(low, 1.7))
    return op.fake_quantize(x, *ends, *ends, 256)


def quantized_products() -> Any:
    """A model [3, 8] -> two products of one quantised activation: [3, 5] with a bias, and [5, 3] of the
    activation in another shape with transposed weights and no bias."""
    import openvino
    from openvino import opset13 as op

    x = op.parameter([3, 8], np.float32)
    fake = quantize(x)
    first = op.add(op.matmul(fake, constant_weights(8, 5), False, False),
                   op.constant(np.linspace(-1, 1, 5, dtype=np.float32)))
    rows = op.reshape(fake, op.constant(np.array([6, 4])), False)
    second = op.matmul(rows, constant_weights(3, 4), False, True)
    return openvino.Model([first, second], [x])


def quantized_product(read: Callable[[Any, Any], list[Any]], low: object = np.float32(-0.3)) -> Any:
    """A model [3, 8] -> what `read` makes of a quantised activation and of its product [3, 5]."""
    import openvino
    from openvino import opset13 as op

    x = op.parameter([3, 8], np.float32)
    fake = quantize(x, low)
    return openvino.Model(read(fake, op.matmul(fake, constant_weights(8, 5), False, False)), [x])


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


@pytest.mark.parametrize("shape", [(5,), (1, 5), (3, 5), (1,)])
def test_a_bias_of_any_shape_and_every_reader_of_a_product_get_the_difference(shape: tuple[int, ...]) -> None:
    from openvino import opset13 as op

    bias = op.constant(np.linspace(-1, 1, int(np.prod(shape)), dtype=np.float32).reshape(shape))
    for model in (quantized_product(lambda fake, product: [op.add(product, bias)]),
                  quantized_product(lambda fake, product: [op.add(product, bias), op.relu(product)]),
                  quantized_product(lambda fake, product: [product])):
        expected = run(model)
        move_zero_points(model)
        assert lowest(model) == 0
        for array, wanted in zip(run(model), expected, strict=True):
            np.testing.assert_allclose(array, wanted, atol=1e-5)


def different() -> dict[str, Any]:
    """Models whose quantisation has a reader that is no product with weights, or that has several ranges."""
    from openvino import opset13 as op

    square = np.ones((3, 8), np.float32)
    return {
        "another reader": quantized_product(lambda fake, product: [product, op.relu(fake)]),
        "weights on the left": quantized_product(
            lambda fake, product: [product, op.matmul(op.constant(square.T), fake, False, False)]),
        "a product with itself": quantized_product(
            lambda fake, product: [product, op.matmul(fake, fake, False, True)]),
        "a transposed activation": quantized_product(
            lambda fake, product: [product, op.matmul(fake, op.constant(square), True, False)]),
        "weights of rank 3": quantized_product(
            lambda fake, product: [product, op.matmul(fake, op.constant(square.reshape(1, 8, 3)), False,
                                                      False)]),
        "a range for each feature": quantized_product(
            lambda fake, product: [product], np.linspace(-0.4, -0.1, 8, dtype=np.float32)),
    }


def test_a_quantisation_with_other_readers_or_several_ranges_stays_as_it_is() -> None:
    for name, model in different().items():
        expected, ops = run(model), len(model.get_ops())
        move_zero_points(model)
        assert len(model.get_ops()) == ops, name
        for array, wanted in zip(run(model), expected, strict=True):
            np.testing.assert_array_equal(array, wanted, err_msg=name)
