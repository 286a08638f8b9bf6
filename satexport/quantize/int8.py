"""fp32 graph to int8 graph: which products, in which scheme, with which ranges.

Which products, a target's `operators` say, by the roles of the graph's nodes (satexport.graph.roles). Of a
transformer these are:
- `linear`: queries, keys and values, projection and MLP of each block, `00.q`, `00.kv`, `00.proj`, `00.fc1`,
  `00.fc2` ... `11.fc2`
- `patch`, `head`: the products that make tokens and scores, `patch` and `head`
- `attention`: queries times keys, and their softmax times values, `00.logits`, `00.mixed` ... `11.mixed`
The front end stays in float, and so do softmax, LayerNormalization and Gelu, for which ONNX Runtime and
TensorRT have no int8 kernels.

Schemes of static quantisation (ranges from a calibration):
- `onnxruntime`: QuantizeLinear to uint8, then `com.microsoft` MatMulIntegerToFloat with the int8 weight, its
  scale per column and the bias inside: one kernel per product, the fastest under ONNX Runtime on a CPU.
- `qdq`: QuantizeLinear and DequantizeLinear around standard products. `symmetric`, int8 throughout, it is
  what TensorRT takes; with activations in uint8 OpenVINO is as fast and its scores are nearer. (Under ONNX
  Runtime it is slow: without quantised outputs it finds no int8 kernel.)

Dynamic quantisation is ONNX Runtime's `quantize_dynamic`: ranges anew at every step.
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
from satexport.quantize.products import Product, check_layers, products

Ranges = dict[str, tuple[float, float]]


def quantize(graph: Graph, wanted: Quantization, ranges: Ranges, leave_out: Iterable[str]) -> Graph:
    """Return the int8 graph, the contract in its metadata as before; layers that are left out stay in
    float. Raises `UsageError` for a layer that does not exist."""
    float_layers = set(leave_out)
    check_layers(graph, wanted, float_layers)
    chosen = [product for product in products(graph, wanted) if product.layer not in float_layers]
    if not chosen:  # no nodes would mean all of them to quantize_dynamic
        return graph
    if wanted.method == "dynamic":
        return quantize_dynamic(graph, wanted, chosen)
    return graph.rewritten(_static(graph.model, wanted, chosen, ranges))


def _static(model: onnx.ModelProto, wanted: Quantization, chosen: Sequence[Product],
            ranges: Ranges) -> onnx.ModelProto:
    """Write the products anew, in place of the old nodes."""
    result = clone(model)
    graph = result.graph
    weights = {i.name: numpy_helper.to_array(i) for i in graph.initializer}
    by_output = {product.node.output[0]: product for product in chosen}
    readers: dict[str, list[onnx.NodeProto]] = {}
    for node in graph.node:
        for name in node.input:
            readers.setdefault(name, []).append(node)
    factors = _Factors(wanted, ranges)
    gone: set[str] = set()  # outputs of nodes that went into others
    for node in graph.node:
        if node.output[0] in gone:
            continue
        if (product := by_output.get(node.output[0])) is None:
            factors.nodes.append(node)
            continue
        a = factors.activation(node.input[0])
        b = (factors.activation(node.input[1], second=True) if product.operator == ATTENTION
             else factors.weight(product.layer, weights[node.input[1]]))
        if wanted.scheme == "qdq":
            node.input[0], node.input[1] = factors.dequantized(a), factors.dequantized(b)
            factors.nodes.append(node)
            continue
        bias, output = _bias(node, readers.get(node.output[0], []), weights)
        if output != node.output[0]:
            gone.add(output)
        factors.nodes.append(helper.make_node(
            "MatMulIntegerToFloat", [a.name, b.name, a.scale, b.scale, a.zero, b.zero, bias],
            [output], node.name, domain="com.microsoft"))
    if wanted.scheme == "onnxruntime":
        result.opset_import.append(helper.make_opsetid("com.microsoft", 1))
    replace(graph.node, factors.nodes)
    graph.initializer.extend(numpy_helper.from_array(np.asarray(array), name)
                             for name, array in factors.constants.items())
    drop_unread(graph)
    replace(graph.value_info, [])  # shapes of tensors that may be gone
    return result


@dataclass(frozen=True, kw_only=True)
class _Factor:
    """Names of the tensors of a quantised factor."""

    name: str
    scale: str
    zero: str
    axis: int | None = None   # of a scale for each column


class _Factors:
    """Quantised factors of products, each written once."""

    def __init__(self, wanted: Quantization, ranges: Ranges) -> None:
        self.wanted, self.ranges = wanted, ranges
        self.nodes: list[onnx.NodeProto] = []
        self.constants: dict[str, NDArray[Any]] = {}
        self._written: set[str] = set()

    def activation(self, x: str, second: bool = False) -> _Factor:
        """Quantise a tensor of the graph; the second factor of a product is int8 around zero, as a weight is:
        the kernels multiply uint8 by int8."""
        q = _Factor(name=f"{x}/quantized", scale=f"{x}/quantized/scale", zero=f"{x}/quantized/zero")
        if self._first(q.name):
            self.constants[q.scale], self.constants[q.zero] = _scale(self.ranges[x], self.wanted, second)
            self.nodes.append(helper.make_node("QuantizeLinear", [x, q.scale, q.zero], [q.name], q.name))
        return q

    def weight(self, layer: str, weight: NDArray[Any]) -> _Factor:
        w = _Factor(name=f"{layer}.int8", scale=f"{layer}.scale", zero=f"{layer}.zero", axis=1)
        self.constants |= zip((w.name, w.scale, w.zero), _weight(weight, self.wanted), strict=True)
        return w

    def dequantized(self, q: _Factor) -> str:
        """The factor as floats again."""
        output = f"{q.name}/float"
        if self._first(output):
            axis: dict[str, Any] = {} if q.axis is None else {"axis": q.axis}
            self.nodes.append(helper.make_node(
                "DequantizeLinear", [q.name, q.scale, q.zero], [output], output, **axis))
        return output

    def _first(self, name: str) -> bool:
        first = name not in self._written
        self._written.add(name)
        return first


def _bias(node: onnx.NodeProto, after: Sequence[onnx.NodeProto],
          weights: Mapping[str, NDArray[Any]]) -> tuple[str, str]:
    """The bias of a product, "" where it has none, and the tensor with the bias in it: a MatMul's comes
    from the Add that alone reads it."""
    output = node.output[0]
    if len(node.input) > 2:
        return node.input[2], output
    if len(after) == 1 and after[0].op_type == "Add":
        other = next(name for name in after[0].input if name != output)
        if other in weights and weights[other].ndim == 1:
            return other, after[0].output[0]
    return "", output


def _scale(bounds: tuple[float, float], wanted: Quantization,
           signed: bool) -> tuple[NDArray[Any], NDArray[Any]]:
    """Scale and zero point of an activation: int8 around zero, or uint8 whose steps fill the range, in
    which zero is always a value of its own."""
    low, high = min(bounds[0], 0.0), max(bounds[1], 0.0)
    if signed or wanted.symmetric:
        rounded = _rounded(np.array(max(-low, high, 1e-8) / 127), wanted)
        as_int8 = signed or wanted.scheme == "qdq"
        return rounded, np.array(0, np.int8) if as_int8 else np.array(128, np.uint8)
    scale = max(high - low, 1e-8) / 255
    return np.array(scale, np.float32), np.array(round(-low / scale), np.uint8)


def _weight(weight: NDArray[Any], wanted: Quantization
            ) -> tuple[NDArray[np.int8], NDArray[np.float32], NDArray[np.int8]]:
    """int8 around zero, scale and zero point, of each column or of the whole."""
    largest = 2 ** (wanted.weight_bits - 1) - 1
    top = np.abs(weight).max(0) if wanted.per_channel else np.abs(weight).max()
    scale = _rounded(np.maximum(top, 1e-12) / largest, wanted)
    return (np.clip(np.round(weight / scale), -largest, largest).astype(np.int8), scale,
            np.zeros(scale.shape, np.int8))


def _rounded(scale: NDArray[Any], wanted: Quantization) -> NDArray[np.float32]:
    """Scales as they are stored: in fp16 rounded up, so that nothing clips, and no less than its least
    normal number."""
    if wanted.scales == "fp32":
        return np.asarray(scale, np.float32)
    half = np.maximum(scale, np.finfo(np.float16).tiny).astype(np.float16)
    up = np.where(half < scale, np.nextafter(half, np.float16(np.inf)), half)
    return np.asarray(up, np.float32)

