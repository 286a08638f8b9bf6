"""What the nodes around a tensor are: look-ups in an ONNX graph for rewriters that search for a pattern."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import numpy_helper


@dataclass(frozen=True, kw_only=True)
class Product:
    """An int8 product of uint8 rows with a constant weight, whose zero points are 0."""

    rows: str                     # tensors: the rows, their scale and zero point
    input_scale: str
    input_zero: str
    weight: NDArray[np.generic]   # [in, out]
    scale: NDArray[np.float32]    # of the weight's columns, [out]
    bias: NDArray[np.float32]     # [out]

    def shares_input(self, other: Product) -> bool:
        """Whether one product can compute both."""
        ours, theirs = ((p.rows, p.input_scale, p.input_zero, p.weight.dtype) for p in (self, other))
        return ours == theirs


class GraphView:
    """Look-ups in a graph that does not change meanwhile."""

    def __init__(self, graph: onnx.GraphProto) -> None:
        self._constants = {constant.name: constant for constant in graph.initializer}
        self._producers = {name: node for node in graph.node for name in node.output if name}
        self._readers: dict[str, list[onnx.NodeProto]] = {}
        for node in graph.node:
            for name in node.input:
                self._readers.setdefault(name, []).append(node)
        self._outputs = {value.name for value in graph.output}
        self._shapes = {value.name: [size.dim_value for size in value.type.tensor_type.shape.dim]
                        for value in graph.input}

    def producer(self, name: str, kind: str) -> onnx.NodeProto | None:
        """Return the node that computes a tensor, if it has this operator."""
        node = self._producers.get(name)
        return node if node is not None and node.op_type == kind else None

    def is_read_once(self, name: str) -> bool:
        return len(self._readers.get(name, [])) == 1 and name not in self._outputs

    def only_reader(self, name: str, kind: str) -> onnx.NodeProto | None:
        """Return the node that reads a tensor, if it has this operator and nothing else reads the tensor."""
        if not self.is_read_once(name):
            return None
        node = self._readers[name][0]
        return node if node.op_type == kind else None

    def is_read_outside(self, name: str, nodes: Collection[int], allowed: int = 0) -> bool:
        """Whether a tensor is an output of the graph, or more than `allowed` nodes read it that are not among
        `nodes` (by id)."""
        outside = [node for node in self._readers.get(name, []) if id(node) not in nodes]
        return name in self._outputs or len(outside) > allowed

    def number(self, node: onnx.NodeProto, name: str, default: int | None = None) -> int | None:
        """Return an integer attribute."""
        return next((int(a.i) for a in node.attribute if a.name == name), default)

    def permutation(self, node: onnx.NodeProto) -> list[int]:
        """Return the permutation of a Transpose; [] if it states none."""
        return next((list(a.ints) for a in node.attribute if a.name == "perm"), [])

    def transposed(self, name: str, permutation: list[int]) -> str:
        """Return the tensor of which this one is the transpose; "" if it is not one."""
        node = self.producer(name, "Transpose")
        return str(node.input[0]) if node is not None and self.permutation(node) == permutation else ""

    def constant(self, node: onnx.NodeProto, position: int) -> list[int] | None:
        """Return the integers of a constant input."""
        array = self._array(node.input[position] if len(node.input) > position else "")
        return None if array is None else [int(number) for number in array.reshape(-1)]

    def shape(self, name: str) -> list[int] | None:
        """Return the shape of an input of the graph, or of one that is converted; 0 for an open size."""
        for kind in ("DequantizeLinear", "Cast"):
            if (node := self.producer(name, kind)) is not None:
                name = node.input[0]
        return self._shapes.get(name)

    def walk(self, name: str, kinds: Collection[str]) -> tuple[list[onnx.NodeProto], list[str]]:
        """Return the nodes of these operators that a tensor is computed from, each before those that it
        reads, and the tensors that these nodes read from others."""
        nodes: list[onnx.NodeProto] = []
        leaves: list[str] = []
        found = [name]
        for tensor in found:
            node = self._producers.get(tensor)
            if node is None or node.op_type not in kinds:
                leaves.append(tensor)
                continue
            if node in nodes:
                nodes.remove(node)  # it comes after all that read it
            nodes.append(node)
            found += node.input[:1] if node.op_type == "Split" else node.input
        return nodes, list(dict.fromkeys(leaves))

    def product(self, name: str) -> Product | None:
        """Return the int8 product that computes a tensor which only one node reads."""
        node = self.producer(name, "MatMulIntegerToFloat")
        if node is None or not self.is_read_once(name):
            return None
        inputs = (*node.input, "", "")  # zero point of the weight and bias may be left out
        weight, scale, input_zero, zero, bias = (self._array(inputs[i]) for i in (1, 3, 4, 5, 6))
        if weight is None or weight.ndim != 2 or scale is None or (zero is not None and zero.any()):
            return None
        if input_zero is None or input_zero.dtype != np.uint8 or input_zero.size != 1:
            return None

        def row(array: NDArray[np.generic]) -> NDArray[np.float32]:
            return np.broadcast_to(array.reshape(-1), weight.shape[1]).astype(np.float32)

        return Product(rows=inputs[0], input_scale=inputs[2], input_zero=inputs[4], weight=weight,
                       scale=row(scale), bias=row(np.zeros(1) if bias is None else bias))

    def _array(self, name: str) -> NDArray[Any] | None:
        constant = self._constants.get(name)
        return None if constant is None else numpy_helper.to_array(constant)
