"""A graph with the inferred dtypes and shapes that the rules for TensorRT need."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import onnx
from numpy.typing import NDArray
from onnx import NodeProto, TensorProto, helper, numpy_helper

from satexport.bundle.roles import FRONT
from satexport.errors import RunError, UsageError
from satexport.graph.edit import opset_of
from satexport.graph.roles import Graph

Q, DQ = "QuantizeLinear", "DequantizeLinear"
MOVES = ("Concat", "Expand", "Flatten", "Gather", "Identity", "Pad", "Reshape", "Slice", "Split", "Squeeze",
         "Transpose", "Unsqueeze")  # move values without changing them
FLOATS = ("float32", "float16", "bfloat16")


@dataclass(frozen=True, kw_only=True)
class GraphView:
    """What the rules read of a graph. The mappings are by tensor name."""

    graph: onnx.GraphProto
    front_end: frozenset[str]              # names of nodes
    version: tuple[int, ...]               # of TensorRT
    opset: int
    producers: Mapping[str, NodeProto]
    constants: Mapping[str, TensorProto]
    dtypes: Mapping[str, str]              # if known
    shapes: Mapping[str, tuple[int, ...]]  # if the rank is known; -1 for an unknown size

    def array(self, tensor: str) -> NDArray[Any] | None:
        """Return the values of a constant, None for another tensor."""
        return numpy_helper.to_array(self.constants[tensor]) if tensor in self.constants else None

    def floats(self, tensors: Iterable[str]) -> list[str]:
        """Return the float dtypes of these tensors, sorted."""
        return sorted({self.dtypes.get(tensor, "") for tensor in tensors}.intersection(FLOATS))

    def is_weight(self, tensor: str) -> bool:
        """Whether a tensor is a constant, or a constant that was only quantised, cast or moved."""
        node = self.producers.get(tensor)
        return tensor in self.constants or (node is not None and node.op_type in (*MOVES, Q, DQ, "Cast")
                                            and all(self.is_weight(name) for name in node.input if name))

    def first_from_int8(self, tensors: Iterable[str]) -> str | None:
        """Return the first of these tensors that was dequantised, or dequantised and moved; None if there is
        none."""
        nodes = {tensor: self.producers[tensor] for tensor in tensors if tensor in self.producers}
        return next((tensor for tensor, node in nodes.items() if node.op_type == DQ or (
            node.op_type in MOVES and self.first_from_int8(node.input))), None)


def view_graph(source: Graph, version: str) -> GraphView:
    """Infer dtypes and shapes of a graph for a TensorRT version such as "10.3". Raises `UsageError` for a
    malformed version, `RunError` for a graph whose shapes or dtypes contradict each other."""
    model = source.model
    if not re.fullmatch(r"\d+(\.\d+)+", version):
        raise UsageError(f"TensorRT version {version!r}: expected one such as 10.3.")
    try:
        inferred = onnx.shape_inference.infer_shapes(model, strict_mode=True).graph
    except onnx.shape_inference.InferenceError as error:
        raise RunError(f"the graph's shapes or dtypes contradict each other: {error}") from None
    constants = {constant.name: constant for constant in model.graph.initializer}
    types = {name: constant.data_type for name, constant in constants.items()}
    shapes = {name: tuple(constant.dims) for name, constant in constants.items()}
    for value in (*inferred.input, *inferred.value_info, *inferred.output):
        kind = value.type.tensor_type
        types[value.name] = kind.elem_type
        if kind.HasField("shape"):
            shapes[value.name] = tuple(d.dim_value if d.HasField("dim_value") else -1 for d in kind.shape.dim)
    dtypes = {name: helper.tensor_dtype_to_np_dtype(kind).name for name, kind in types.items() if kind}
    front_end = frozenset(node.name for node in model.graph.node if source.kind(node) == FRONT)
    producers = {tensor: node for node in model.graph.node for tensor in node.output}
    return GraphView(graph=model.graph, front_end=front_end, version=tuple(map(int, version.split("."))),
                     opset=opset_of(model), producers=producers, constants=constants, dtypes=dtypes,
                     shapes=shapes)
