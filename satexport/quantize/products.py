"""The products of a graph that can be quantised."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import onnx

from satexport.bundle.target import Quantization
from satexport.errors import DataError, UsageError

PRODUCTS = ("MatMul", "Gemm")
FRONT_END = "mel."               # begins the names of its matrices, which stay in float
ATTENTION = ("/logits", "/mixed")  # end the names of products without a weight
QUANTISED = {"QuantizeLinear", "DequantizeLinear", "DynamicQuantizeLinear", "MatMulInteger",
             "MatMulIntegerToFloat", "DynamicQuantizeMatMul", "QLinearMatMul"}


@dataclass(frozen=True)
class Product:
    """A product of the graph that can be quantised."""

    node: onnx.NodeProto
    layer: str
    operator: str

    @property
    def activations(self) -> list[str]:
        """The factors that are no weights."""
        return list(self.node.input[:2] if self.operator == "attention" else self.node.input[:1])


def layers(model: onnx.ModelProto, wanted: Quantization) -> list[str]:
    """The layers that are quantised, in the order of the graph. Raises `DataError` where the graph
    is quantised already."""
    return list(dict.fromkeys(product.layer for product in products(model, wanted)))


def products_with_weights(model: onnx.ModelProto, wanted: Quantization, leave_out: Iterable[str]) -> int:
    """How many products with a weight are quantised: a layer may be in several."""
    return sum(product.operator != "attention" and product.layer not in set(leave_out)
               for product in products(model, wanted))


def check_layers(model: onnx.ModelProto, wanted: Quantization, names: Iterable[str]) -> None:
    """Raise `UsageError` for a layer that does not exist, or is not of the operators."""
    there = layers(model, wanted)
    if strangers := sorted(set(names) - set(there)):
        raise UsageError(f"there is no layer {strangers[0]!r} to leave out; the layers are "
                         f"{', '.join(there[:6])} ... {there[-1]}.")


def products(model: onnx.ModelProto, wanted: Quantization) -> list[Product]:
    """The products of the operators; raises `DataError` where some are quantised already."""
    if done := sorted({node.op_type for node in model.graph.node} & QUANTISED):
        raise DataError(f"the graph is quantised already (it has {done[0]} nodes). Begin with fp32.")
    weights = {i.name for i in model.graph.initializer if len(i.dims) == 2}
    found = []
    for node in model.graph.node:
        if node.op_type not in PRODUCTS:
            continue
        if node.input[1] in weights and not node.input[1].startswith(FRONT_END):
            layer = node.input[1].removesuffix(".weight")
            found.append(Product(node, layer, layer if layer in ("patch", "head") else "linear"))
        elif node.output[0].endswith(ATTENTION):
            layer = node.output[0].removeprefix("block_").replace("/", ".")
            found.append(Product(node, layer, "attention"))
    return [product for product in found if product.operator in wanted.operators]
