"""The products of a graph that can be quantised."""

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
    """A product of the graph that can be quantised."""

    node: onnx.NodeProto
    layer: str
    operator: str  # one of a target's `operators`: the kind of its role

    @property
    def activations(self) -> list[str]:
        """The factors that are no weights."""
        return list(self.node.input[:2] if self.operator == ATTENTION else self.node.input[:1])


def layers(graph: Graph, wanted: Quantization) -> list[str]:
    """The layers that are quantised, in the order of the graph. Raises `DataError` where the graph
    is quantised already."""
    return list(dict.fromkeys(product.layer for product in products(graph, wanted)))


def products_with_weights(graph: Graph, wanted: Quantization, leave_out: Iterable[str]) -> int:
    """How many products with a weight are quantised: a layer may be in several."""
    return sum(product.operator != ATTENTION and product.layer not in set(leave_out)
               for product in products(graph, wanted))


def check_layers(graph: Graph, wanted: Quantization, names: Iterable[str]) -> None:
    """Raise `UsageError` for a layer that does not exist or is not of the operators, and if nothing at all
    would be int8."""
    there = layers(graph, wanted)
    if not there:
        raise UsageError(f"no product of this graph is one of the target's operators "
                         f"({', '.join(wanted.operators)}): nothing would be int8. Ask for fp32, or "
                         "name other operators in the target.")
    if strangers := sorted(set(names) - set(there)):
        raise UsageError(f"there is no layer {strangers[0]!r} to leave out; the layers are "
                         f"{', '.join(there[:6])} ... {there[-1]}.")


def products(graph: Graph, wanted: Quantization) -> list[Product]:
    """The products of the operators; raises `DataError` where some are quantised already."""
    nodes = graph.model.graph.node
    if done := sorted({node.op_type for node in nodes} & QUANTIZED):
        raise DataError(f"the graph is quantised already (it has {done[0]} nodes). Begin with fp32.")
    weights = graph.weights()
    found = []
    for node in nodes:
        role = graph.roles.get(node.name)
        if role is None or role.kind not in wanted.operators or node.op_type not in MATRIX_PRODUCTS:
            continue
        if role.kind in WITH_WEIGHTS and node.input[1] not in weights:
            raise DataError(f"the weight of {role.name} is no constant of the graph ({node.op_type} "
                            f"{node.name}): it cannot be quantised. Export it again.")
        found.append(Product(node, role.name, role.kind))
    return found
