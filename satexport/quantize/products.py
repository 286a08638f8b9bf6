"""The matrix products of a graph that can be quantised."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import onnx

from satexport.bundle.roles import ATTENTION, WITH_WEIGHTS
from satexport.bundle.target import Quantization
from satexport.errors import DataError, UsageError
from satexport.graph.roles import MATRIX_PRODUCTS, Graph

QUANTIZED = {"QuantizeLinear", "DequantizeLinear", "DynamicQuantizeLinear", "MatMulInteger",
             "MatMulIntegerToFloat", "DynamicQuantizeMatMul", "QLinearMatMul"}


@dataclass(frozen=True)
class Product:
    """A matrix product that can be quantised."""

    node: onnx.NodeProto
    layer: str
    operator: str  # one of a target's `operators`: the kind of its role

    @property
    def activations(self) -> list[str]:
        """The factors that are not weights."""
        return list(self.node.input[:2] if self.operator == ATTENTION else self.node.input[:1])


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
    weights = graph.weights()
    products = []
    for node in nodes:
        role = graph.roles.get(node.name)
        if role is None or role.kind not in quantization.operators or node.op_type not in MATRIX_PRODUCTS:
            continue
        if role.kind in WITH_WEIGHTS and node.input[1] not in weights:
            raise DataError(f"the weight of {role.name} is not a constant ({node.op_type} {node.name}), so "
                            "it cannot be quantised. Export the graph again.")
        products.append(Product(node, role.name, role.kind))
    return products
