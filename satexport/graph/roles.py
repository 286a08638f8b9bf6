"""A graph and the roles of its nodes, which go together: a rewriter gives those of its result, too."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from satexport.bundle.roles import WITH_WEIGHTS, Role, Roles

if TYPE_CHECKING:
    import onnx

MATRIX_PRODUCTS = ("MatMul", "Gemm")        # operators


@dataclass(frozen=True)
class Graph:
    """An ONNX model and what its nodes are."""

    model: onnx.ModelProto
    roles: Roles

    def kind(self, node: onnx.NodeProto) -> str:
        """The kind of a node's role; "" if it has none."""
        role = self.roles.get(node.name)
        return role.kind if role else ""

    def weights(self) -> set[str]:
        """The constants that the products with weights multiply by, biases not among them."""
        constants = {constant.name for constant in self.model.graph.initializer}
        return {node.input[1] for node in self.model.graph.node
                if node.op_type in MATRIX_PRODUCTS and self.kind(node) in WITH_WEIGHTS} & constants

    def rewritten(self, model: onnx.ModelProto) -> Graph:
        """The model after a rewriter that keeps the names of nodes; the roles of nodes that are gone go."""
        return Graph(model, {node.name: self.roles[node.name] for node in model.graph.node
                             if node.name in self.roles})

    def renamed(self, model: onnx.ModelProto) -> Graph:
        """The model after a tool that gives nodes names of its own: who writes a tensor has the role of the
        node that wrote it before."""
        by_output = {output: self.roles[node.name] for node in self.model.graph.node
                     if node.name in self.roles for output in node.output}
        found = {node.name: _first(node.output, by_output) for node in model.graph.node}
        return Graph(model, {name: role for name, role in found.items() if role})

    def layers(self) -> set[Role]:
        """The roles that occur."""
        return set(self.roles.values())


def _first(outputs: Collection[str], by_output: Mapping[str, Role]) -> Role | None:
    return next((by_output[output] for output in outputs if output in by_output), None)
