"""Convert an fp32 or Q/DQ graph to fp16 for TensorRT, except for the parts that fp16 would break.

TensorRT 10 and 11 read each tensor's precision from the graph (strong typing), so this module writes the
precisions into the graph, as Cast nodes. These stay in fp32: inputs and outputs; the mel front end, whose
decibels overflow and whose clamp would lose precision; LayerNormalization, which overflows in fp16
(NVIDIA/TensorRT#2564, #4493); the mean over the tokens, which is between two of these; and the sigmoid of the
scores. Nodes that only move values keep the dtype of their input.

A quantisation scale has the dtype of the dequantised tensor (other dtypes fail on Orin:
NVIDIA/TensorRT#4832), so it is fp16, too. With `Quantization.scales` = "fp16" the quantiser rounds scales to
fp16 and quantises the weights with the rounded scales.
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
OPSETS = range(19, 21)  # ONNX has fp16 scales since opset 19; TensorRT 10.3 reads up to 20


def to_fp16(source: Graph) -> Graph:
    """Return the graph in fp16, with inputs, outputs and contract unchanged. Raises `UsageError` for an opset
    that TensorRT does not read, `RunError` for a constant too large for fp16."""
    if (opset := opset_of(source.model)) not in OPSETS:
        raise UsageError(f"the export has opset {opset}, but TensorRT needs {OPSETS[0]} or {OPSETS[-1]}: "
                         f"export with --opset {OPSETS[-1]}.")
    result = clone(source.model)
    graph = result.graph
    rewriter = _Rewriter(source)
    nodes = [new for node in graph.node for new in rewriter.rewrite(node)]
    constants = list(rewriter.constants.values())
    for field, content in ((graph.node, nodes), (graph.initializer, constants), (graph.value_info, [])):
        replace(field, content)
    onnx.checker.check_model(result, full_check=True)
    return source.with_model(result)


class _Rewriter:
    """Rewrites the nodes in order. It keeps track of the float type of every tensor and adds a Cast where a
    reader needs another type."""

    def __init__(self, source: Graph) -> None:
        self._source, graph = source, source.model.graph
        self._initializers = {i.name: i for i in graph.initializer}
        self._types = {i.name: int(i.type.tensor_type.elem_type) for i in graph.input}
        self._outputs = {o.name for o in graph.output}
        self.constants: dict[str, onnx.TensorProto] = {}
        self._casts: set[str] = set()

    def rewrite(self, node: onnx.NodeProto) -> Iterator[onnx.NodeProto]:
        """Yield the node in its new float type, with the casts before and after it."""
        dtype = self._float_type(node)
        new = onnx.NodeProto()
        new.CopyFrom(node)
        for position, name in enumerate(node.input):
            if name in self._initializers:
                new.input[position] = self._convert_constant(name, dtype)
            elif self._types.get(name, dtype) in NAMES and self._types.get(name, dtype) != dtype:
                cast = f"{name}/{NAMES[dtype]}"
                if cast not in self._casts:
                    self._casts.add(cast)
                    yield helper.make_node("Cast", [name], [cast], cast, to=dtype)
                new.input[position] = cast
        after = []
        for position, name in enumerate(node.output):
            self._types[name] = dtype if node.op_type != "QuantizeLinear" else int(TensorProto.INT8)
            if name in self._outputs and dtype != FLOAT:
                half = f"{name}/{NAMES[dtype]}"
                new.output[position] = half
                self._types[name] = FLOAT
                self._casts.add(half)  # later readers use the fp16 tensor, not the output
                after.append(helper.make_node("Cast", [half], [name], f"{name}/cast", to=FLOAT))
        yield new
        yield from after

    def _float_type(self, node: onnx.NodeProto) -> int:
        """The float type in which a node computes from now on."""
        if self._source.kind(node) == FRONT or node.op_type in PRECISE:
            return FLOAT
        if node.op_type in DTYPE_OF_INPUT and (dtype := self._types.get(node.input[0])) is not None:
            return dtype
        return HALF

    def _convert_constant(self, name: str, dtype: int) -> str:
        """Keep a constant, converted to fp16 if its reader computes in fp16 and it is fp32; returns its new
        name. Raises `RunError` if it is too large for fp16."""
        tensor = self._initializers[name]
        if tensor.data_type == FLOAT and dtype == HALF:
            values = numpy_helper.to_array(tensor)
            if np.abs(values).max(initial=0.0) > np.finfo(np.float16).max:
                raise RunError(f"{name} has values up to {np.abs(values).max():g}, fp16 at most 65504: this "
                               "model cannot run in fp16.")
            name = f"{name}/fp16"
            tensor = numpy_helper.from_array(values.astype(np.float16), name)
        self.constants[name] = tensor
        return name
