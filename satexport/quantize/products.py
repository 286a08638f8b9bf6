"""The products of a graph that can be quantised: of matrices, and convolutions."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import onnx

from satexport.bundle.roles import ATTENTION, WITH_WEIGHTS
from satexport.bundle.target import Quantization
from satexport.errors import DataError, UsageError
from satexport.graph.roles import PRODUCTS, Graph

QUANTIZED = {"QuantizeLinear", "DequantizeLinear", "DynamicQuantizeLinear", "MatMulInteger",
             "MatMulIntegerToFloat", "DynamicQuantizeMatMul", "QLinearMatMul", "QLinearConv", "ConvInteger"}


@dataclass(frozen=True)
class Product:
    """A product that can be quantised."""

    node: onnx.NodeProto
    layer: str
    operator: str  # one of a target's `operators`: the kind of its role
    result: str    # the tensor that an int8 kernel can compute: the output; of a convolution after ReLU

    @property
    def activations(self) -> list[str]:
        """The factors that are not weights."""
        return list(self.node.input[:2] if self.operator == ATTENTION else self.node.input[:1])

    @property
    def is_convolution(self) -> bool:
        return self.node.op_type == "Conv"

    @property
    def channel_axis(self) -> int:
        """The axis of output channels in its weight: [out, in / groups, ...] or [in, out]."""
        return 0 if self.is_convolution else 1


def find_layers(graph: Graph, quantization: Quantization) -> list[str]:
    """Return the layers to quantise, in the order of the graph. Raises the errors of `find_products`."""
    return list(dict.fromkeys(product.layer for product in find_products(graph, quantization)))


def count_weight_products(graph: Graph, quantization: Quantization, leave_out: Iterable[str]) -> int:
    """Return how many products with a weight are quantised; a layer may have several products."""
    return sum(product.operator != ATTENTION and product.layer not in set(leave_out)
               for product in find_products(graph, quantization))


def check_layers(graph: Graph, quantization: Quantization, names: Iterable[str]) -> None:
    """Raise `UsageError` if one of the names is not a layer that the target quantises, or if there is no such
    layer at all."""
    layers = find_layers(graph, quantization)
    if not layers:
        raise UsageError(f"this graph has no product of the target's operators "
                         f"({', '.join(quantization.operators)}): nothing would be int8. Use fp32, or other "
                         "operators in the target.")
    if unknown := sorted(set(names) - set(layers)):
        raise UsageError(f"there is no layer {unknown[0]!r} to leave out; the layers are "
                         f"{', '.join(layers[:6])} ... {layers[-1]}.")


def find_products(graph: Graph, quantization: Quantization) -> list[Product]:
    """Return the products of the target's operators. Raises `DataError` if the graph is quantised already, or
    if a weight is not a constant."""
    nodes = graph.model.graph.node
    if quantized := sorted({node.op_type for node in nodes} & QUANTIZED):
        raise DataError(f"the graph is quantised already (it has {quantized[0]} nodes). Start from an fp32 "
                        "export.")
    weights, readers = graph.weights(), _find_readers(graph)
    products = []
    for node in nodes:
        role = graph.roles.get(node.name)
        if role is None or role.kind not in quantization.operators or node.op_type not in PRODUCTS:
            continue
        if role.kind in WITH_WEIGHTS and node.input[1] not in weights:
            raise DataError(f"the weight of {role.name} is not a constant ({node.op_type} {node.name}), so "
                            "it cannot be quantised. Export the graph again.")
        products.append(Product(node, role.name, role.kind, _find_result(node, readers, quantization)))
    return products


def _find_readers(graph: Graph) -> dict[str, list[onnx.NodeProto]]:
    """Return the nodes that read each tensor."""
    readers: dict[str, list[onnx.NodeProto]] = {}
    for node in graph.model.graph.node:
        for name in node.input:
            readers.setdefault(name, []).append(node)
    return readers


def _find_result(node: onnx.NodeProto, readers: Mapping[str, Sequence[onnx.NodeProto]],
                 quantization: Quantization) -> str:
    """Return the output of a product; of a convolution whose only reader is a ReLU, the output of that,
    because values below a zero point of 0 become 0 when they are quantised."""
    found = readers.get(node.output[0], [])
    has_relu = len(found) == 1 and found[0].op_type == "Relu"
    fuses = has_relu and node.op_type == "Conv" and not quantization.symmetric
    return str(found[0].output[0] if fuses else node.output[0])
