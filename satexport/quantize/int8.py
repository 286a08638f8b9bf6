"""Quantise an fp32 graph to int8.

Which products are quantised. A target's `operators` name kinds of products, found by the roles of the graph's
nodes (satexport.graph.roles). In a transformer these are:
- `linear`: queries, keys and values, projection and MLP of each block; layers `00.q`, `00.kv`, `00.proj`,
  `00.fc1`, `00.fc2` ... `11.fc2`
- `patch`, `head`: the products that compute the tokens and the scores; layers `patch` and `head`
- `attention`: queries times keys, and their softmax times values; layers `00.logits`, `00.mixed` ...
  `11.mixed`
In a convolutional network:
- `conv`, `depthwise`: convolutions over all channels, and of each channel by itself; layers such as
  `02.expand`, `02.depthwise`, `02.project`
- `linear`: the products of squeeze-and-excitation and of the head's hidden layer
- `patch`, `head`: the first convolution, which reads the features, and the product that computes the scores
The front end stays in float, and so do softmax, LayerNormalization, Gelu and HardSwish, for which ONNX
Runtime and TensorRT have no int8 kernels.

Schemes of static quantisation (ranges from a calibration):
- `onnxruntime`: QuantizeLinear to uint8, then `com.microsoft` MatMulIntegerToFloat with the int8 weight, a
  scale per column and the bias: one kernel per product, the fastest scheme for ONNX Runtime on a CPU.
  Convolutions become QLinearConv, whose output is quantised as well.
- `qdq`: QuantizeLinear and DequantizeLinear around standard products. TensorRT needs the `symmetric` form,
  with int8 activations. OpenVINO is as fast with uint8 activations, and its scores are then closer. (ONNX
  Runtime is slow with this scheme: it has no int8 kernel for products whose output is not quantised.)

Dynamic quantisation is ONNX Runtime's `quantize_dynamic`: it computes ranges again at every step.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import helper, numpy_helper

from satexport.bundle.roles import ATTENTION
from satexport.bundle.target import Quantization
from satexport.graph.edit import drop_unread, replace
from satexport.graph.roles import Graph
from satexport.graph.weights import copy_small, restore_weights
from satexport.quantize.convolution import int8_convolution
from satexport.quantize.dynamic import quantize_dynamic
from satexport.quantize.factors import Factors, Ranges
from satexport.quantize.own_weights import copy_shared_weights
from satexport.quantize.products import Product, check_layers, find_products


def quantize(graph: Graph, quantization: Quantization, ranges: Ranges, leave_out: Iterable[str]) -> Graph:
    """Return the int8 graph, with the contract in its metadata unchanged. The layers in `leave_out` stay in
    float. Raises `UsageError` for a layer that does not exist."""
    float_layers = set(leave_out)
    check_layers(graph, quantization, float_layers)
    chosen = [product for product in find_products(graph, quantization) if product.layer not in float_layers]
    if not chosen:  # quantize_dynamic takes an empty list of nodes for all nodes
        return graph
    if quantization.method == "dynamic":
        result = quantize_dynamic(graph, quantization, chosen)
    else:
        result = graph.with_model(_quantize_static(graph.model, quantization, chosen, ranges))
    copy_shared_weights(result.model)
    return result


def _quantize_static(model: onnx.ModelProto, quantization: Quantization, chosen: Sequence[Product],
                     ranges: Ranges) -> onnx.ModelProto:
    """Replace the chosen products by int8 products."""
    result = copy_small(model)
    graph = result.graph
    weights = {i.name: numpy_helper.to_array(i) for i in model.graph.initializer}
    by_output = {product.node.output[0]: product for product in chosen}
    readers: dict[str, list[onnx.NodeProto]] = {}
    for node in graph.node:
        for name in node.input:
            readers.setdefault(name, []).append(node)
    factors = Factors(quantization, ranges)
    fused: set[str] = set()  # outputs of Add and Relu nodes that are now part of a product
    for node in graph.node:
        if node.output[0] in fused:
            continue
        if (product := by_output.get(node.output[0])) is None:
            factors.nodes.append(node)
            continue
        a = factors.activation(node.input[0])
        b = (factors.activation(node.input[1], second=True) if product.operator == ATTENTION
             else factors.weight(product.layer, weights[node.input[1]], product.channel_axis))
        if quantization.scheme == "qdq":
            node.input[0], node.input[1] = factors.dequantize(a), factors.dequantize(b)
            factors.nodes.append(node)
            continue
        if product.is_convolution:
            bias = weights[node.input[2]] if len(node.input) > 2 else None
            factors.nodes += int8_convolution(factors, product, a, b, bias)
            fused.add(product.result)
            continue
        bias_name, output = _find_bias(node, readers.get(node.output[0], []), weights)
        if output != node.output[0]:
            fused.add(output)
        factors.nodes.append(helper.make_node(
            "MatMulIntegerToFloat", [a.name, b.name, a.scale, b.scale, a.zero, b.zero, bias_name],
            [output], node.name, domain="com.microsoft"))
    if quantization.scheme == "onnxruntime":
        result.opset_import.append(helper.make_opsetid("com.microsoft", 1))
    replace(graph.node, _without_unread(factors.nodes, graph))
    graph.initializer.extend(numpy_helper.from_array(np.asarray(array), name)
                             for name, array in factors.constants.items())
    restore_weights(result, model)
    drop_unread(graph)
    replace(graph.value_info, [])  # some of these tensors no longer exist
    return result


def _without_unread(nodes: Sequence[onnx.NodeProto], graph: onnx.GraphProto) -> list[onnx.NodeProto]:
    """The nodes except those that dequantise a tensor which only int8 products read."""
    read = {name for node in nodes for name in node.input} | {output.name for output in graph.output}
    return [node for node in nodes if node.op_type != "DequantizeLinear" or node.output[0] in read]


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


