"""Count the operations of a graph: the definition of GFLOPs in all reports."""

from __future__ import annotations

from math import prod
from typing import TYPE_CHECKING

from satexport.bundle.roles import FRONT, Role
from satexport.errors import RunError
from satexport.graph.roles import PRODUCTS, Graph

if TYPE_CHECKING:
    import onnx


def count_operations(graph: Graph) -> dict[str, int]:
    """Return {"model": ..., "front_end": ...}, the floating-point operations of the MatMul, Gemm and Conv
    nodes for one chunk of one stream. A multiply-add counts as two. Raises `RunError` if a shape cannot be
    inferred."""
    counts = {"model": 0, "front_end": 0}
    for role, count in count_by_role(graph).items():
        counts["front_end" if role and role.kind == FRONT else "model"] += count
    return counts


def count_by_role(graph: Graph) -> dict[Role | None, int]:
    """Return the same operations by the role of the nodes; None: nodes without one. Raises `RunError` if a
    shape cannot be inferred."""
    import onnx

    from satexport.graph.weights import without_weights

    model = without_weights(graph.model)
    streams = 1
    for value in (*model.graph.input, *model.graph.output):
        first = value.type.tensor_type.shape.dim[0]
        streams = first.dim_value or 1
        if first.dim_param:  # any number of streams: count one
            first.dim_value = 1
    inferred = onnx.shape_inference.infer_shapes(model, data_prop=True).graph
    shapes = {v.name: tuple(d.dim_value for d in v.type.tensor_type.shape.dim)
              for v in (*inferred.input, *inferred.output, *inferred.value_info) if _has_static_shape(v)}
    shapes |= {i.name: tuple(i.dims) for i in inferred.initializer}
    counts: dict[Role | None, int] = {}
    for node in inferred.node:
        if node.op_type in PRODUCTS:
            role = graph.roles.get(node.name)
            counts[role] = counts.get(role, 0) + _count_node(node, shapes)
    return {role: count // streams for role, count in counts.items()}


def _has_static_shape(value: onnx.ValueInfoProto) -> bool:
    tensor = value.type.tensor_type
    return tensor.HasField("shape") and all(size.HasField("dim_value") for size in tensor.shape.dim)


def _count_node(node: onnx.NodeProto, shapes: dict[str, tuple[int, ...]]) -> int:
    """Twice the multiply-adds: the number of output values times the length of the sum for each."""
    try:
        left, right, out = (shapes[name] for name in (*node.input[:2], node.output[0]))
    except KeyError as error:
        raise RunError(f"the operations of node {node.name} cannot be counted: the shape of {error} is "
                       "unknown.") from None
    if node.op_type == "Conv":
        return 2 * prod(out) * prod(right[1:])   # channels per group, kernel size
    transposed = any(a.name == "transA" and a.i for a in node.attribute)
    return 2 * prod(out) * left[-2 if transposed else -1]
