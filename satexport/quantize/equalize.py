"""Equalise channels: an exact rewrite of convolutions, after which int8 loses less.

An activation has one int8 scale for all channels. If one channel is much larger than the others, the others
keep few of the 256 levels: before the last projection of EfficientAT's mn04, one channel reaches 28, half of
them stay below 0.4. So each channel of an activation is divided by a factor, and the weights that read it are
multiplied by the same factor. The division costs nothing where the channel's values come from
- a convolution, whose weights and bias for this channel are divided; with or without a ReLU after it,
- a sum of several such tensors, whose channels get the same factors,
- squeeze-and-excitation: its gate is multiplied by 1 / factor, one small product more.
Channels that pass through another operator, such as HardSwish, keep their scale. Source of the idea:
"Data-Free Quantization Through Weight Equalization and Bias Correction" (Nagel et al., 2019, arXiv
1906.04721); the ranges are measured here.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

from satexport.bundle.target import Quantization
from satexport.errors import RunError
from satexport.graph.edit import clone, replace
from satexport.graph.roles import Graph
from satexport.quantize.observe import Sample
from satexport.quantize.products import find_products
from satexport.runtimes import import_runtime

SMALLEST = 0.1     # of the largest channel: a smaller one counts as this large, because it may be larger in
                   # other audio than the calibration's
TOLERANCE = 1e-4   # largest difference that the rewrite may make, by rounding: of a score; of an embedding
                   # times its largest number, if that is above 1
Array = NDArray[np.float64]


@dataclass
class _Channels:
    """Tensors [N, C, H, W] whose channels must have the same factors."""

    tensors: list[str] = field(default_factory=list)
    sources: list[onnx.NodeProto] = field(default_factory=list)  # convolutions and gated products
    readers: list[onnx.NodeProto] = field(default_factory=list)  # convolutions
    is_free: bool = True                                         # no other operator reads or writes them


def equalize(graph: Graph, quantization: Quantization, samples: Sequence[Sample]) -> Graph:
    """Return a graph with the same outputs whose convolutions in int8 are more accurate; the same graph if it
    has none. `samples` are those of a calibration. Raises `RunError` if an output changed."""
    chosen = {product.node.output[0] for product in find_products(graph, quantization)
              if product.is_convolution}
    if not quantization.equalize or quantization.method == "dynamic" or not chosen:
        return graph
    weights = {i.name: numpy_helper.to_array(i).astype(np.float64) for i in graph.model.graph.initializer}
    groups = [group for group in _find_channels(graph.model.graph, weights)
              if any(node.output[0] in chosen for node in group.readers)]
    if not groups:
        return graph
    read = sorted({node.input[0] for group in groups for node in group.readers})
    before, largest = _run(graph.model, samples, read)
    gates: dict[str, Array] = {}
    changed: set[str] = set()
    for group in groups:
        readers = [node for node in group.readers if node.output[0] in chosen]
        factors = _factors([largest[node.input[0]] for node in readers],
                           [weights[node.input[1]] for node in readers])
        changed |= _scale(group, factors, weights, gates)
    result = graph.with_model(_rewrite(graph.model, {name: weights[name] for name in changed}, gates))
    after, _ = _run(result.model, samples, [])
    for old, new in zip(before, after, strict=True):
        difference = float(np.abs(new - old).max() / max(1.0, np.abs(old).max()))
        if difference > TOLERANCE:
            raise RunError(
                f"equalising the channels of the convolutions moved an output by {difference:.2g}, more than "
                f"{TOLERANCE:g}. Turn it off: equalize = false in the target's [quantization].")
    return result


def _find_channels(graph: onnx.GraphProto, weights: Mapping[str, Any]) -> Iterator[_Channels]:
    """Yield the groups of tensors that may be scaled."""
    group_of: dict[str, _Channels] = {}
    producers = {name: node for node in graph.node for name in node.output}
    uses = [name for node in graph.node for name in node.input] + [output.name for output in graph.output]

    def group(tensor: str) -> _Channels:
        if tensor not in group_of:
            group_of[tensor] = _Channels(tensors=[tensor])
        return group_of[tensor]

    def join(first: str, second: str) -> None:
        into, other = group(first), group(second)
        if into is not other:
            into.tensors += other.tensors
            into.sources += other.sources
            into.readers += other.readers
            into.is_free &= other.is_free
            group_of.update(dict.fromkeys(other.tensors, into))

    for node in graph.node:
        inputs = [name for name in node.input if name and name not in weights]
        if node.op_type == "Conv" and _is_plain(node, weights) and all(
                uses.count(name) == 1 for name in node.input[1:]):
            group(node.output[0]).sources.append(node)
            group(inputs[0]).readers.append(node)
        elif node.op_type == "Relu":
            join(inputs[0], node.output[0])
        elif node.op_type == "Add" and len(inputs) == 2:
            join(inputs[0], inputs[1])
            join(inputs[0], node.output[0])
        else:
            if _find_gate(node, producers, uses):
                group(node.output[0]).sources.append(node)
            else:
                group(node.output[0]).is_free = False
            for name in (*inputs, *node.output[1:]):
                group(name).is_free = False
    for value in (*graph.input, *graph.output):
        group(value.name).is_free = False
    yield from {id(one): one for one in group_of.values() if one.is_free and one.sources}.values()


def _is_plain(node: onnx.NodeProto, weights: Mapping[str, Any]) -> bool:
    """Whether a convolution of maps has constant weights and is over all channels, or over each channel by
    itself."""
    if any(name not in weights for name in node.input[1:]) or weights[node.input[1]].ndim != 4:
        return False
    groups = next((a.i for a in node.attribute if a.name == "group"), 1)
    return groups == 1 or weights[node.input[1]].shape[:2] == (groups, 1)


def _find_gate(node: onnx.NodeProto, producers: Mapping[str, onnx.NodeProto], uses: Sequence[str]) -> str:
    """Return the input of a product of two activations that is a sigmoid which nothing else reads; "" if this
    is no such product."""
    if node.op_type != "Mul" or not all(name in producers for name in node.input):
        return ""
    return next((name for name in reversed(node.input)
                 if producers[name].op_type == "Sigmoid" and uses.count(name) == 1), "")


def _factors(largest: Sequence[Array], weights: Sequence[Array]) -> Array:
    """Return the factor of each channel: the square root of its largest value over its largest weight, both
    relative; their geometric mean is 1."""
    values = np.max(largest, axis=0)
    values = np.maximum(values, values.max() * SMALLEST)
    relative = [_relative(weight, len(values)) for weight in weights]
    factors = np.sqrt(values / np.maximum(np.max(relative, axis=0), 1e-3))
    return np.asarray(factors / np.exp(np.log(factors).mean()), np.float64)


def _relative(weight: Array, channels: int) -> Array:
    """Return the largest weight of each input channel, relative to the largest of its output channel. A
    convolution of each channel by itself has a scale for each."""
    if _is_depthwise(weight, channels):
        return np.ones(channels)
    rows = np.abs(weight).max((1, 2, 3), keepdims=True, initial=1e-12)
    return np.asarray((np.abs(weight) / rows).max((0, 2, 3)), np.float64)


def _is_depthwise(weight: Array, channels: int) -> bool:
    return weight.shape[:2] == (channels, 1)


def _scale(group: _Channels, factors: Array, weights: dict[str, Array], gates: dict[str, Array]) -> set[str]:
    """Scale the weights of a group's convolutions, and note the gates to scale; returns the names of the
    weights."""
    rows, columns = factors[:, None, None, None], factors[None, :, None, None]
    names = set()
    for node in group.sources:
        if node.op_type == "Mul":
            gates[node.output[0]] = 1 / columns
            continue
        weights[node.input[1]] = weights[node.input[1]] / rows
        if len(node.input) > 2:
            weights[node.input[2]] = weights[node.input[2]] / factors
        names |= set(node.input[1:])
    for node in group.readers:
        weight = weights[node.input[1]]
        weights[node.input[1]] = weight * (rows if _is_depthwise(weight, len(factors)) else columns)
        names.add(node.input[1])
    return names


def _rewrite(model: onnx.ModelProto, weights: Mapping[str, Array],
             gates: Mapping[str, Array]) -> onnx.ModelProto:
    """Return the model with new weights, and with scaled gates of the products that write these tensors."""
    result = clone(model)
    graph = result.graph
    for constant in graph.initializer:
        if constant.name in weights:
            values = weights[constant.name].astype(np.float32)
            constant.CopyFrom(numpy_helper.from_array(values, constant.name))
    producers = {name: node for node in graph.node for name in node.output}
    uses = [name for node in graph.node for name in node.input]
    nodes = []
    for node in graph.node:
        if node.output[0] in gates:
            gate = _find_gate(node, producers, uses)
            name = f"{gate}/equalized"
            graph.initializer.append(numpy_helper.from_array(
                gates[node.output[0]].astype(np.float32), f"{name}/factors"))
            nodes.append(helper.make_node("Mul", [gate, f"{name}/factors"], [name], name))
            node.input[list(node.input).index(gate)] = name
        nodes.append(node)
    replace(graph.node, nodes)
    return result


def _run(model: onnx.ModelProto, samples: Sequence[Sample], tensors: Sequence[str]
         ) -> tuple[list[NDArray[Any]], dict[str, Array]]:
    """Return each output of the graph for all samples, and the largest absolute value in each channel of
    these tensors."""
    probed = clone(model)
    outputs = [value.name for value in model.graph.output]
    known = {value.name for value in (*probed.graph.input, *probed.graph.output)}
    probed.graph.output.extend(helper.make_tensor_value_info(name, TensorProto.FLOAT, None)
                               for name in tensors if name not in known)
    runtime = import_runtime("onnxruntime")
    session = runtime.InferenceSession(probed.SerializeToString(), providers=["CPUExecutionProvider"])
    results, largest = [], {name: np.zeros(1) for name in tensors}
    for sample in samples:
        found = session.run([*outputs, *tensors], sample)
        results.append(found[:len(outputs)])
        for name, array in zip(tensors, found[len(outputs):], strict=True):
            largest[name] = np.maximum(largest[name], np.abs(array).max((0, 2, 3)))
    return [np.stack(arrays) for arrays in zip(*results, strict=True)], largest
