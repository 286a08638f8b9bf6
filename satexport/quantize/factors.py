"""The quantised factors of products: activations, weights, and their scales."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from onnx import NodeProto, helper

from satexport.bundle.target import Quantization

Ranges = dict[str, tuple[float, float]]  # tensor -> least and largest value


@dataclass(frozen=True, kw_only=True)
class Factor:
    """A quantised factor of a product, as names of tensors."""

    name: str
    scale: str
    zero: str
    axis: int | None = None   # of the scales, if there is one for each output channel


class Factors:
    """Writes the quantised factors of products, each only once."""

    def __init__(self, quantization: Quantization, ranges: Ranges) -> None:
        self.quantization, self.ranges = quantization, ranges
        self.nodes: list[NodeProto] = []
        self.constants: dict[str, NDArray[Any]] = {}
        self._written: set[str] = set()

    def activation(self, x: str, second: bool = False) -> Factor:
        """Quantise a tensor of the graph. The second factor of a product is symmetric int8 and has as many
        bits as a weight: the kernels multiply uint8 by int8."""
        q = _quantized(x)
        if self._is_new(q.name):
            self.constants[q.scale], self.constants[q.zero] = _choose_scale(
                self.ranges[x], self.quantization, signed=second)
            self.nodes.append(helper.make_node("QuantizeLinear", [x, q.scale, q.zero], [q.name], q.name))
        return q

    def weight(self, layer: str, weight: NDArray[Any], axis: int) -> Factor:
        """Quantise the weight of a layer; `axis` is that of its output channels."""
        w = Factor(name=f"{layer}.int8", scale=f"{layer}.scale", zero=f"{layer}.zero", axis=axis)
        self.constants |= zip((w.name, w.scale, w.zero), _quantize_weight(weight, axis, self.quantization),
                              strict=True)
        return w

    def int32_bias(self, layer: str, bias: NDArray[Any], x: Factor, w: Factor) -> str:
        """Quantise the bias of a convolution with the scale of its sum of products; returns its name."""
        scale = self.constants[x.scale].astype(np.float64) * self.constants[w.scale]
        largest = np.iinfo(np.int32).max
        name = f"{layer}.bias.int32"
        self.constants[name] = np.clip(np.round(bias / scale), -largest, largest).astype(np.int32)
        return name

    def result(self, y: str) -> Factor:
        """Declare that the next node computes the quantised form of y, which is then not quantised again."""
        q = _quantized(y)
        assert self._is_new(q.name)
        self.constants[q.scale], self.constants[q.zero] = _choose_scale(
            self.ranges[y], self.quantization, signed=False)
        return q

    def dequantize(self, q: Factor) -> str:
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


def _quantized(x: str) -> Factor:
    return Factor(name=f"{x}/quantized", scale=f"{x}/quantized/scale", zero=f"{x}/quantized/zero")


def _choose_scale(bounds: tuple[float, float], quantization: Quantization,
                  signed: bool) -> tuple[NDArray[Any], NDArray[Any]]:
    """Return scale and zero point of an activation: symmetric int8, or uint8 over the range, which is
    extended to include zero, so that zero is represented exactly."""
    low, high = min(bounds[0], 0.0), max(bounds[1], 0.0)
    if signed or quantization.symmetric:
        largest = _largest(quantization) if signed else 127
        symmetric_scale = _round_scale(np.array(max(-low, high, 1e-8) / largest), quantization)
        is_int8 = signed or quantization.scheme == "qdq"
        return symmetric_scale, np.array(0, np.int8) if is_int8 else np.array(128, np.uint8)
    scale = max(high - low, 1e-8) / 255
    return np.array(scale, np.float32), np.array(round(-low / scale), np.uint8)


def _quantize_weight(weight: NDArray[Any], axis: int, quantization: Quantization
                     ) -> tuple[NDArray[np.int8], NDArray[np.float32], NDArray[np.int8]]:
    """Return a weight as symmetric int8, with scale and zero point of each output channel (`axis`) or of the
    whole weight."""
    largest = _largest(quantization)
    others = tuple(i for i in range(weight.ndim) if i != axis)
    top = np.abs(weight).max(others if quantization.per_channel else None, keepdims=True)
    scale = _round_scale(np.maximum(top, 1e-12) / largest, quantization)
    stored = scale.reshape(-1) if quantization.per_channel else scale.reshape(())
    return (np.clip(np.round(weight / scale), -largest, largest).astype(np.int8), stored,
            np.zeros(stored.shape, np.int8))


def _largest(quantization: Quantization) -> int:
    """The largest value of a weight: with 63, a sum of two products with uint8 fits into 16 bits."""
    return int(2 ** (quantization.weight_bits - 1) - 1)


def _round_scale(scale: NDArray[Any], quantization: Quantization) -> NDArray[np.float32]:
    """Round scales to the dtype in which they are stored. fp16 scales are rounded up, so that no value is
    clipped, and are at least the smallest normal number."""
    if quantization.scales == "fp32":
        return np.asarray(scale, np.float32)
    half = np.maximum(scale, np.finfo(np.float16).tiny).astype(np.float16)
    up = np.where(half < scale, np.nextafter(half, np.float16(np.inf)), half)
    return np.asarray(up, np.float32)
