"""Operations of a graph, counted on its nodes: what GFLOPs means in every report."""

from __future__ import annotations

from math import prod
from typing import TYPE_CHECKING

from satexport.bundle.roles import FRONT
from satexport.errors import RunError
from satexport.graph.roles import MATRIX_PRODUCTS, Graph

if TYPE_CHECKING:
    import onnx

PRODUCTS = (*MATRIX_PRODUCTS, "Conv")


def count_operations(graph: Graph) -> dict[str, int]:
    """Return {"model": ..., "front_end": ...}, floating-point operations of one chunk of one stream:
    of MatMul, Gemm and Conv nodes, a multiply-add counted as two. Raises `RunError` where a shape
    cannot be inferred."""
    import onnx

    from satexport.graph.edit import clone

    model = clone(graph.model)
    streams = 1
    for value in (*model.graph.input, *model.graph.output):
        first = value.type.tensor_type.shape.dim[0]
        streams = first.dim_value or 1
        if first.dim_param:  # any number of streams: count one
            first.dim_value = 1
    known = onnx.shape_inference.infer_shapes(model, data_prop=True).graph
    shapes = {v.name: tuple(d.dim_value for d in v.type.tensor_type.shape.dim)
              for v in (*known.input, *known.output, *known.value_info) if _is_known(v)}
    shapes |= {i.name: tuple(i.dims) for i in known.initializer}
    counts = {"model": 0, "front_end": 0}
    for node in known.node:
        if node.op_type in PRODUCTS:
            part = "front_end" if graph.kind(node) == FRONT else "model"
            counts[part] += _operations(node, shapes)
    return {part: count // streams for part, count in counts.items()}


def _is_known(value: onnx.ValueInfoProto) -> bool:
    kind = value.type.tensor_type
    return kind.HasField("shape") and all(size.HasField("dim_value") for size in kind.shape.dim)


def _operations(node: onnx.NodeProto, shapes: dict[str, tuple[int, ...]]) -> int:
    """Twice the multiply-adds: values of the output times length of the sum behind each."""
    try:
        left, right, out = (shapes[name] for name in (*node.input[:2], node.output[0]))
    except KeyError as error:
        raise RunError(f"the operations of {node.name} cannot be counted: no shape of {error}.") from None
    if node.op_type == "Conv":
        return 2 * prod(out) * prod(right[1:])   # channels of the group, kernel
    transposed = any(a.name == "transA" and a.i for a in node.attribute)
    return 2 * prod(out) * left[-2 if transposed else -1]
