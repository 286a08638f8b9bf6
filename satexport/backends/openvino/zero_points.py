"""Move the zero points of quantised activations into the biases of the products that read them.

A product of weights W [in, out] with x = s (q - z) is s q W - s z (1 W): the second term is the same in every
row. So q without a zero point, whose product needs no correction in each step, and a bias of lowest x times
the sums of W's columns give the same.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from satexport.backends.openvino.simplify import SHAPING, constant_value
from satexport.runtimes import import_runtime

if TYPE_CHECKING:
    import openvino

MOVING = {*SHAPING, "Slice"}  # these move values and do not change them


def move_zero_points(ir: openvino.Model) -> None:
    """Let each quantisation that only products with weights read begin at 0."""
    op = import_runtime("openvino.opset13")
    for fake in ir.get_ordered_ops():
        if fake.get_type_name() != "FakeQuantize":
            continue
        low, high = (constant_value(fake.input_value(i)) for i in (3, 4))
        if low is None or high is None or low.size != 1 or not low.any():
            continue
        products = list(_readers(fake))
        sums = [total for product, port in products if port == 0
                if (total := _column_sums(product)) is not None]
        if len(sums) < len(products):
            continue
        for i, end in ((3, low - low), (4, high - low)):
            fake.input(i).replace_source_output(op.constant(end.astype(np.float32)).output(0))
        for (product, _), total in zip(products, sums, strict=True):
            _add_bias(product, (low.astype(np.float64).item() * total).astype(np.float32))


def _readers(node: Any) -> Iterator[tuple[Any, int]]:
    """The nodes that read what `node` computes, maybe in other shapes, and the index of that input."""
    for target in node.output(0).get_target_inputs():
        reader = target.get_node()
        if reader.get_type_name() in MOVING and target.get_index() == 0:
            yield from _readers(reader)
        else:
            yield reader, target.get_index()


def _column_sums(product: Any) -> NDArray[np.float64] | None:
    """The sums of the columns of a product's weights [in, out]; None if it is another node or has none."""
    if product.get_type_name() != "MatMul" or product.get_attributes()["transpose_a"]:
        return None
    weights = product.input_value(1)
    scale: NDArray[Any] | None = np.ones(())
    if weights.get_node().get_type_name() == "Multiply":  # of int8 weights with their scales
        weights, scale = weights.get_node().input_value(0), constant_value(weights.get_node().input_value(1))
    values = constant_value(weights)
    if values is None or scale is None or values.ndim != 2:
        return None
    axis = 1 if product.get_attributes()["transpose_b"] else 0
    return np.asarray((values * scale.astype(np.float64)).sum(axis))


def _add_bias(product: Any, bias: NDArray[np.float32]) -> None:
    """Add a bias to a product, as part of the bias that it has."""
    op = import_runtime("openvino.opset13")
    readers = list(product.output(0).get_target_inputs())
    adds = [target.get_node() for target in readers if target.get_node().get_type_name() == "Add"]
    old = constant_value(adds[0].input_value(1)) if len(adds) == len(readers) == 1 else None
    if old is not None and old.shape == bias.shape:
        adds[0].input(1).replace_source_output(op.constant(old + bias).output(0))
        return
    added = op.add(product, op.constant(bias))
    for reader in readers:
        reader.replace_source_output(added.output(0))
