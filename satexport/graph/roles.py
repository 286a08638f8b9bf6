"""A graph together with the roles of its nodes: each rewriter returns both for its result."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from satexport.bundle.roles import WITH_WEIGHTS, Role, Roles

if TYPE_CHECKING:
    import onnx

PRODUCTS = ("MatMul", "Gemm", "Conv")  # operators


@dataclass(frozen=True)
class Graph:
    """An ONNX model and the roles of its nodes."""

    model: onnx.ModelProto
    roles: Roles

    def kind(self, node: onnx.NodeProto) -> str:
        """The kind of a node's role; "" if it has no role."""
        role = self.roles.get(node.name)
        return role.kind if role else ""

    def weights(self) -> set[str]:
        """The names of the weights of all products with weights, without biases."""
        constants = {constant.name for constant in self.model.graph.initializer}
        return {node.input[1] for node in self.model.graph.node
                if node.op_type in PRODUCTS and self.kind(node) in WITH_WEIGHTS} & constants

    def with_model(self, model: onnx.ModelProto) -> Graph:
        """The result of a rewriter that keeps the names of nodes, with the roles of the nodes that remain."""
        return Graph(model, {node.name: self.roles[node.name] for node in model.graph.node
                             if node.name in self.roles})

    def with_renamed_nodes(self, model: onnx.ModelProto) -> Graph:
        """The result of a tool that renames nodes: a node gets the role of the node that previously computed
        its output."""
        by_output = {output: self.roles[node.name] for node in self.model.graph.node
                     if node.name in self.roles for output in node.output}
        roles = {node.name: _find_role(node.output, by_output) for node in model.graph.node}
        return Graph(model, {name: role for name, role in roles.items() if role})

    def layers(self) -> set[Role]:
        """The distinct roles of its nodes."""
        return set(self.roles.values())


def _find_role(outputs: Collection[str], by_output: Mapping[str, Role]) -> Role | None:
    return next((by_output[output] for output in outputs if output in by_output), None)
