"""Compute queries, keys and values of an attention in one product.

The exporter writes a product for queries and one for keys and values, which suits ONNX Runtime. Under
OpenVINO each product takes some time beside its arithmetic, because the weights of the one before it have
displaced code and tables from the CPU's caches; so one product is faster than two that are narrow. The joint
result is transposed once, and split by heads without a copy. The price is that queries are transposed, too,
which OpenVINO otherwise does within the attention: if they are wide, it costs more than is saved.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from satexport.backends.openvino.simplify import constant_value
from satexport.runtimes import import_runtime

if TYPE_CHECKING:
    import openvino

WIDEST = 1152  # columns of q, k and v: 3 x 384; with 3 x 768, and 48 tokens, a step takes 1 % longer


@dataclass(frozen=True, kw_only=True)
class Heads:
    """A product of quantised tokens whose columns are split into heads, [1, heads, tokens, size]."""

    tokens: Any                  # output that the product reads
    weights: NDArray[np.int8]    # [in, heads * size]
    scale: NDArray[np.float32]   # [heads * size]
    bias: NDArray[np.float32]    # [heads * size]
    shape: tuple[int, ...]       # (1, heads, tokens, size)
    result: Any                  # output of the transpose

    @property
    def kind(self) -> tuple[object, ...]:
        """What products have in common that can be one."""
        source = self.tokens.get_node().get_name(), self.tokens.get_index()
        return *source, self.shape[2:]


def join_heads(ir: openvino.Model) -> int:
    """Join the products in int8 that read the same tokens and whose results are split into heads, for models
    of one stream; returns the number of products that this saves."""
    kinds: dict[tuple[object, ...], list[Heads]] = defaultdict(list)
    for node in ir.get_ordered_ops():
        if node.get_type_name() == "Transpose" and (heads := _read_heads(node)) is not None:
            kinds[heads.kind].append(heads)
    saved = 0
    for parts in kinds.values():
        if len(parts) > 1 and sum(len(part.bias) for part in parts) <= WIDEST:
            _join(parts)
            saved += len(parts) - 1
    ir.validate_nodes_and_infer_types()
    return saved


def _read_heads(transpose: Any) -> Heads | None:
    """Read the heads that end in this transpose; None if they are no heads of one stream or not in int8."""
    split = transpose.input_value(0).get_node()
    order, shape = constant_value(transpose.input_value(1)), transpose.get_output_partial_shape(0)
    if order is None or order.tolist() != [0, 2, 1, 3] or shape.is_dynamic or shape[0] != 1 or (
            split.get_type_name() != "Reshape"):
        return None
    product = added = split.input_value(0).get_node()
    bias = None
    if product.get_type_name() == "Add":
        bias, product = constant_value(product.input_value(1)), product.input_value(0).get_node()
        if bias is None:
            return None
    if product.get_type_name() != "MatMul" or (weights := _read_weights(product)) is None or not all(
            len(node.output(0).get_target_inputs()) == 1 for node in (split, added, product)):
        return None
    (whole, scale), columns = weights, len(weights[1])
    if bias is not None and bias.size != columns:
        return None
    return Heads(tokens=product.input_value(0), weights=whole, scale=scale,
                 bias=np.zeros(columns, np.float32) if bias is None else bias.reshape(-1),
                 shape=tuple(transpose.get_output_shape(0)), result=transpose.output(0))


def _read_weights(product: Any) -> tuple[NDArray[np.int8], NDArray[np.float32]] | None:
    """Return the weights [in, columns] of a product and the scale of each column; None if they are not in
    int8."""
    scaled = product.input_value(1).get_node()
    if scaled.get_type_name() != "Multiply" or any(
            product.get_attributes()[side] for side in ("transpose_a", "transpose_b")):
        return None
    convert, factors = scaled.input_value(0).get_node(), constant_value(scaled.input_value(1))
    if convert.get_type_name() != "Convert" or factors is None:
        return None
    whole = constant_value(convert.input_value(0))
    if whole is None or whole.dtype != np.int8 or whole.ndim != 2 or (
            factors.size not in (1, factors.shape[-1])):
        return None
    return whole, np.broadcast_to(factors.reshape(-1), whole.shape[1])


def _join(parts: Sequence[Heads]) -> None:
    """Replace the products of these parts by one, each result by its heads of the joint result."""
    op = import_runtime("openvino.opset13")
    whole = op.constant(np.concatenate([part.weights for part in parts], 1))
    scale = op.constant(np.concatenate([part.scale for part in parts])[None])
    product = op.matmul(parts[0].tokens, op.multiply(op.convert(whole, "f32"), scale), False, False)
    rows = op.add(product, op.constant(np.concatenate([part.bias for part in parts])))
    numbers = [part.shape[1] for part in parts]
    _, _, tokens, size = parts[0].shape
    split = op.reshape(rows, op.constant(np.array([1, tokens, sum(numbers), size], np.int64)), False)
    joint = op.transpose(split, op.constant(np.array([0, 2, 1, 3], np.int64)))
    heads = op.variadic_split(joint, op.constant(np.int64(1)), op.constant(np.array(numbers, np.int64)))
    name = parts[0].result.get_node().get_friendly_name()
    for node, suffix in ((product, "product"), (rows, "rows"), (joint, "heads"), (heads, "parts")):
        node.set_friendly_name(f"{name}/joint/{suffix}")
    for part, output in zip(parts, heads.outputs(), strict=True):
        part.result.replace(output)
