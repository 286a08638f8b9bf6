"""fp32 or Q/DQ graph to the graph that TensorRT builds as it stands: everything in fp16 but what would break.

TensorRT 10 and 11 take each tensor's precision from the graph (strong typing), so the choice is written
here, as casts. In fp32 stay inputs and outputs, the mel front end (its decibels overflow and its clamp loses
its bits), LayerNormalization (it overflows in fp16: NVIDIA/TensorRT#2564, #4493), the mean over the tokens,
which stands between two of them, and the sigmoid of the scores. Nodes that only move values do so as these
come.

A scale of a quantisation has the dtype of what it gives (another fails on Orin: NVIDIA/TensorRT#4832), so it
is fp16, too: `Quantization.scales` has the quantiser round its scales so, and weights with the rounded ones.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from satexport.bundle.roles import FRONT
from satexport.errors import RunError, UsageError
from satexport.graph.edit import clone, opset_of, replace
from satexport.graph.roles import Graph

PRECISE = {"LayerNormalization", "ReduceMean", "Sigmoid"}
DTYPE_OF_INPUT = {"Reshape", "Transpose", "Split", "Slice", "Squeeze", "Unsqueeze"}
FLOAT, HALF = int(TensorProto.FLOAT), int(TensorProto.FLOAT16)
NAMES = {FLOAT: "fp32", HALF: "fp16"}
OPSETS = range(19, 21)  # Q/DQ has scales in fp16 from 19 on; TensorRT 10.3 reads up to 20


def to_fp16(source: Graph) -> Graph:
    """Return the graph in fp16, inputs, outputs and contract as before. Raises `UsageError` for an opset
    that TensorRT does not read, `RunError` for a constant too large for fp16."""
    if (opset := opset_of(source.model)) not in OPSETS:
        raise UsageError(f"the export has opset {opset}, TensorRT needs {OPSETS[0]} or {OPSETS[-1]}: export "
                         f"with --opset {OPSETS[-1]}.")
    result = clone(source.model)
    graph = result.graph
    rewriter = _Rewriter(source)
    nodes = [written for node in graph.node for written in rewriter.rewritten(node)]
    constants = list(rewriter.constants.values())
    for field, content in ((graph.node, nodes), (graph.initializer, constants), (graph.value_info, [])):
        replace(field, content)
    onnx.checker.check_model(result, full_check=True)
    return source.rewritten(result)


class _Rewriter:
    """Goes through the nodes once, knows which float type every value has, and casts where a reader needs
    another."""

    def __init__(self, source: Graph) -> None:
        self._source, graph = source, source.model.graph
        self._given = {i.name: i for i in graph.initializer}
        self._types = {i.name: int(i.type.tensor_type.elem_type) for i in graph.input}
        self._outputs = {o.name for o in graph.output}
        self.constants: dict[str, onnx.TensorProto] = {}
        self._casts: set[str] = set()

    def rewritten(self, node: onnx.NodeProto) -> Iterator[onnx.NodeProto]:
        """The node as it computes from now on, casts before and after it."""
        wanted = self._wanted(node)
        new = onnx.NodeProto()
        new.CopyFrom(node)
        for position, name in enumerate(node.input):
            if name in self._given:
                new.input[position] = self._constant(name, wanted)
            elif self._types.get(name, wanted) in NAMES and self._types.get(name, wanted) != wanted:
                cast = f"{name}/{NAMES[wanted]}"
                if cast not in self._casts:
                    self._casts.add(cast)
                    yield helper.make_node("Cast", [name], [cast], cast, to=wanted)
                new.input[position] = cast
        after = []
        for position, name in enumerate(node.output):
            self._types[name] = wanted if node.op_type != "QuantizeLinear" else int(TensorProto.INT8)
            if name in self._outputs and wanted != FLOAT:
                half = f"{name}/{NAMES[wanted]}"
                new.output[position] = half
                self._types[name] = FLOAT
                self._casts.add(half)  # who reads it on takes it as it was computed
                after.append(helper.make_node("Cast", [half], [name], f"{name}/cast", to=FLOAT))
        yield new
        yield from after

    def _wanted(self, node: onnx.NodeProto) -> int:
        if self._source.kind(node) == FRONT or node.op_type in PRECISE:
            return FLOAT
        if node.op_type in DTYPE_OF_INPUT and (found := self._types.get(node.input[0])) is not None:
            return found
        return HALF

    def _constant(self, name: str, wanted: int) -> str:
        """A constant in the float type of its reader; others as they are."""
        tensor = self._given[name]
        if tensor.data_type == FLOAT and wanted == HALF:
            values = numpy_helper.to_array(tensor)
            if np.abs(values).max(initial=0.0) > np.finfo(np.float16).max:
                raise RunError(f"{name} reaches {np.abs(values).max():g}, more than fp16 holds (65504): this "
                               "model cannot run in fp16.")
            name = f"{name}/fp16"
            tensor = numpy_helper.from_array(values.astype(np.float16), name)
        self.constants[name] = tensor
        return name
