"""Quantise an fp32 graph to int8.

Which products are quantised. A target's `operators` name kinds of products, found by the roles of the graph's
nodes (satexport.graph.roles). In a transformer these are:
- `linear`: queries, keys and values, projection and MLP of each block; layers `00.q`, `00.kv`, `00.proj`,
  `00.fc1`, `00.fc2` ... `11.fc2`
- `patch`, `head`: the products that compute the tokens and the scores; layers `patch` and `head`
- `attention`: queries times keys, and their softmax times values; layers `00.logits`, `00.mixed` ...
  `11.mixed`
The front end stays in float, and so do softmax, LayerNormalization and Gelu, for which ONNX Runtime and
TensorRT have no int8 kernels.

Schemes of static quantisation (ranges from a calibration):
- `onnxruntime`: QuantizeLinear to uint8, then `com.microsoft` MatMulIntegerToFloat with the int8 weight, a
  scale per column and the bias: one kernel per product, the fastest scheme for ONNX Runtime on a CPU.
- `qdq`: QuantizeLinear and DequantizeLinear around standard products. TensorRT needs the `symmetric` form,
  with int8 activations. OpenVINO is as fast with uint8 activations, and its scores are then closer. (ONNX
  Runtime is slow with this scheme: it has no int8 kernel for products whose output is not quantised.)

Dynamic quantisation is ONNX Runtime's `quantize_dynamic`: it computes ranges again at every step.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import helper, numpy_helper

from satexport.bundle.roles import ATTENTION
from satexport.bundle.target import Quantization
from satexport.graph.edit import clone, drop_unread, replace
from satexport.graph.roles import Graph
from satexport.quantize.dynamic import quantize_dynamic
from satexport.quantize.products import Product, check_layers, find_products

Ranges = dict[str, tuple[float, float]]  # tensor -> least and largest value


def quantize(graph: Graph, quantization: Quantization, ranges: Ranges, leave_out: Iterable[str]) -> Graph:
    """Return the int8 graph, with the contract in its metadata unchanged. The layers in `leave_out` stay in
    float. Raises `UsageError` for a layer that does not exist."""
    float_layers = set(leave_out)
    check_layers(graph, quantization, float_layers)
    chosen = [product for product in find_products(graph, quantization) if product.layer not in float_layers]
    if not chosen:  # quantize_dynamic takes an empty list of nodes for all nodes
        return graph
    if quantization.method == "dynamic":
        return quantize_dynamic(graph, quantization, chosen)
    return graph.with_model(_quantize_static(graph.model, quantization, chosen, ranges))


def _quantize_static(model: onnx.ModelProto, quantization: Quantization, chosen: Sequence[Product],
                     ranges: Ranges) -> onnx.ModelProto:
    """Replace the chosen products by int8 products."""
    result = clone(model)
    graph = result.graph
    weights = {i.name: numpy_helper.to_array(i) for i in graph.initializer}
    by_output = {product.node.output[0]: product for product in chosen}
    readers: dict[str, list[onnx.NodeProto]] = {}
    for node in graph.node:
        for name in node.input:
            readers.setdefault(name, []).append(node)
    factors = _Factors(quantization, ranges)
    fused: set[str] = set()  # outputs of Add nodes that are now part of a product
    for node in graph.node:
        if node.output[0] in fused:
            continue
        if (product := by_output.get(node.output[0])) is None:
            factors.nodes.append(node)
            continue
        a = factors.activation(node.input[0])
        b = (factors.activation(node.input[1], second=True) if product.operator == ATTENTION
             else factors.weight(product.layer, weights[node.input[1]]))
        if quantization.scheme == "qdq":
            node.input[0], node.input[1] = factors.dequantize(a), factors.dequantize(b)
            factors.nodes.append(node)
            continue
        bias, output = _find_bias(node, readers.get(node.output[0], []), weights)
        if output != node.output[0]:
            fused.add(output)
        factors.nodes.append(helper.make_node(
            "MatMulIntegerToFloat", [a.name, b.name, a.scale, b.scale, a.zero, b.zero, bias],
            [output], node.name, domain="com.microsoft"))
    if quantization.scheme == "onnxruntime":
        result.opset_import.append(helper.make_opsetid("com.microsoft", 1))
    replace(graph.node, factors.nodes)
    graph.initializer.extend(numpy_helper.from_array(np.asarray(array), name)
                             for name, array in factors.constants.items())
    drop_unread(graph)
    replace(graph.value_info, [])  # some of these tensors no longer exist
    return result


@dataclass(frozen=True, kw_only=True)
class _Factor:
    """A quantised factor of a product, as names of tensors."""

    name: str
    scale: str
    zero: str
    axis: int | None = None   # of the scales, if there is one for each column


class _Factors:
    """Writes the quantised factors of products, each only once."""

    def __init__(self, quantization: Quantization, ranges: Ranges) -> None:
        self.quantization, self.ranges = quantization, ranges
        self.nodes: list[onnx.NodeProto] = []
        self.constants: dict[str, NDArray[Any]] = {}
        self._written: set[str] = set()

    def activation(self, x: str, second: bool = False) -> _Factor:
        """Quantise a tensor of the graph. The second factor of a product is symmetric int8, like a weight:
        the kernels multiply uint8 by int8."""
        q = _Factor(name=f"{x}/quantized", scale=f"{x}/quantized/scale", zero=f"{x}/quantized/zero")
        if self._is_new(q.name):
            self.constants[q.scale], self.constants[q.zero] = _choose_scale(
                self.ranges[x], self.quantization, signed=second)
            self.nodes.append(helper.make_node("QuantizeLinear", [x, q.scale, q.zero], [q.name], q.name))
        return q

    def weight(self, layer: str, weight: NDArray[Any]) -> _Factor:
        """Quantise the weight of a layer."""
        w = _Factor(name=f"{layer}.int8", scale=f"{layer}.scale", zero=f"{layer}.zero", axis=1)
        self.constants |= zip((w.name, w.scale, w.zero), _quantize_weight(weight, self.quantization),
                              strict=True)
        return w

    def dequantize(self, q: _Factor) -> str:
        """Write the node that converts a factor back to float; returns its output."""
        output = f"{q.name}/float"
        if self._is_new(output):
            axis: dict[str, Any] = {} if q.axis is None else {"axis": q.axis}
            self.nodes.append(helper.make_node(
                "DequantizeLinear", [q.name, q.scale, q.zero], [output], output, **axis))
        return output

    def _is_new(self, name: str) -> bool:
        is_new = name not in self._written
        self._written.add(name)
        return is_new


def _find_bias(node: onnx.NodeProto, readers: Sequence[onnx.NodeProto],
               weights: Mapping[str, NDArray[Any]]) -> tuple[str, str]:
    """Return the bias of a product ("" if it has none) and the output tensor that includes the bias. The bias
    of a MatMul is in the Add that reads its output, if nothing else reads it."""
    output = node.output[0]
    if len(node.input) > 2:
        return node.input[2], output
    if len(readers) == 1 and readers[0].op_type == "Add":
        other = next(name for name in readers[0].input if name != output)
        if other in weights and weights[other].ndim == 1:
            return other, readers[0].output[0]
    return "", output


def _choose_scale(bounds: tuple[float, float], quantization: Quantization,
                  signed: bool) -> tuple[NDArray[Any], NDArray[Any]]:
    """Return scale and zero point of an activation: symmetric int8, or uint8 over the range, which is
    extended to include zero, so that zero is represented exactly."""
    low, high = min(bounds[0], 0.0), max(bounds[1], 0.0)
    if signed or quantization.symmetric:
        symmetric_scale = _round_scale(np.array(max(-low, high, 1e-8) / 127), quantization)
        is_int8 = signed or quantization.scheme == "qdq"
        return symmetric_scale, np.array(0, np.int8) if is_int8 else np.array(128, np.uint8)
    scale = max(high - low, 1e-8) / 255
    return np.array(scale, np.float32), np.array(round(-low / scale), np.uint8)


def _quantize_weight(weight: NDArray[Any], quantization: Quantization
                     ) -> tuple[NDArray[np.int8], NDArray[np.float32], NDArray[np.int8]]:
    """Return a weight as symmetric int8, with scale and zero point of each column or of the whole weight."""
    largest = 2 ** (quantization.weight_bits - 1) - 1
    top = np.abs(weight).max(0) if quantization.per_channel else np.abs(weight).max()
    scale = _round_scale(np.maximum(top, 1e-12) / largest, quantization)
    return (np.clip(np.round(weight / scale), -largest, largest).astype(np.int8), scale,
            np.zeros(scale.shape, np.int8))


def _round_scale(scale: NDArray[Any], quantization: Quantization) -> NDArray[np.float32]:
    """Round scales to the dtype in which they are stored. fp16 scales are rounded up, so that no value is
    clipped, and are at least the smallest normal number."""
    if quantization.scales == "fp32":
        return np.asarray(scale, np.float32)
    half = np.maximum(scale, np.finfo(np.float16).tiny).astype(np.float16)
    up = np.where(half < scale, np.nextafter(half, np.float16(np.inf)), half)
    return np.asarray(up, np.float32)

