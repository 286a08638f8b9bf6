"""Convolutions in int8 for ONNX Runtime."""

from __future__ import annotations

from typing import Any

from numpy.typing import NDArray
from onnx import NodeProto, helper

from satexport.quantize.factors import Factor, Factors
from satexport.quantize.products import Product


def int8_convolution(factors: Factors, product: Product, x: Factor, w: Factor,
                     bias: NDArray[Any] | None) -> list[NodeProto]:
    """Return a QLinearConv, and the node that dequantises its output. A ReLU after the convolution is part of
    it: the range of its output begins at 0, so that lower values are rounded to 0. An int8 product that reads
    the output reads its quantised form."""
    node, y = product.node, factors.result(product.result)
    inputs = [x.name, x.scale, x.zero, w.name, w.scale, w.zero, y.scale, y.zero]
    if bias is not None:
        inputs.append(factors.int32_bias(product.layer, bias, x, w))
    convolution = helper.make_node("QLinearConv", inputs, [y.name], node.name)
    convolution.attribute.extend(node.attribute)
    floats = helper.make_node("DequantizeLinear", [y.name, y.scale, y.zero], [product.result],
                              f"{y.name}/float")
    return [convolution, floats]
