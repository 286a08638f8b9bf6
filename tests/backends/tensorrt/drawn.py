"""Graphs written by hand, node by node."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import onnx
from numpy.typing import ArrayLike
from onnx import TensorProto, helper, numpy_helper

from satexport.bundle.roles import Role
from satexport.graph.roles import Graph

FLOAT, HALF = TensorProto.FLOAT, TensorProto.FLOAT16
INT8, DOUBLE = TensorProto.INT8, TensorProto.DOUBLE
NORMED = "block/normed/quantized"


class Drawn:
    """A graph that a test writes or changes."""

    def __init__(self, body: int = HALF, opset: int = 20) -> None:
        self.body, self.opset = body, opset
        self.model = helper.make_model(helper.make_graph([], "graph", [], []),
                                       opset_imports=[helper.make_opsetid("", opset)])

    @property
    def graph(self) -> Graph:
        """With its roles, as far as a rule asks for them: what is called mel/ is front end."""
        names = [node.name for node in self.model.graph.node if node.name.startswith("mel/")]
        return Graph(self.model, dict.fromkeys(names, Role("front_end")))

    def constant(self, name: str, values: ArrayLike, dtype: int | None = None) -> str:
        """Add a constant, or put another in its place; in the body's dtype where none is named."""
        kind = helper.tensor_dtype_to_np_dtype(self.body if dtype is None else dtype)
        kept = [i for i in self.model.graph.initializer if i.name != name]
        del self.model.graph.initializer[:]
        self.model.graph.initializer.extend([*kept, numpy_helper.from_array(np.asarray(values, kind), name)])
        return name

    def op(self, kind: str, name: str, *inputs: str, **attributes: Any) -> str:
        self.model.graph.node.append(helper.make_node(kind, inputs, [name], name, **attributes))
        return name

    def reshape(self, name: str, x: str, *shape: int) -> str:
        return self.op("Reshape", name, x, self.constant(f"{name}/shape", shape, TensorProto.INT64))

    def requantize(self, x: str, dtype: int | None = None) -> str:
        """An activation to int8 and back."""
        scale, zero = self.constant(f"{x}/scale", 0.1, dtype), self.constant(f"{x}/zero", 0, INT8)
        q = self.op("QuantizeLinear", f"{x}/quantized", x, scale, zero)
        return self.op("DequantizeLinear", f"{q}/float", q, scale, zero)

    def weight(self, name: str, rows: int, columns: int, axis: int, dtype: int | None = None) -> str:
        channels = (rows, columns)[axis]
        data = self.constant(f"{name}.int8", np.arange(rows * columns).reshape(rows, columns) % 7, INT8)
        scale, zero = f"{name}.scale", f"{name}.zero"
        self.constant(scale, np.full(channels, 0.02), dtype)
        self.constant(zero, np.zeros(channels), INT8)
        return self.op("DequantizeLinear", f"{data}/float", data, scale, zero, axis=axis)

    def add_input(self, name: str, dtype: int, *shape: int) -> str:
        self.model.graph.input.append(helper.make_tensor_value_info(name, dtype, shape))
        return name

    def add_output(self, name: str, dtype: int, *shape: int | None) -> None:
        self.model.graph.output.append(helper.make_tensor_value_info(name, dtype, shape))

    def node(self, name: str) -> onnx.NodeProto:
        node: onnx.NodeProto
        node, = (node for node in self.model.graph.node if node.name == name)
        return node

    def behind(self, name: str, place: int, write: Callable[[str], str]) -> None:
        """Put nodes that `write` writes before an input of a node."""
        nodes = list(self.model.graph.node)
        reader = self.node(name)
        where = nodes.index(reader)
        reader_name = write(reader.input[place])
        written = list(self.model.graph.node)[len(nodes):]
        nodes[where].input[place] = reader_name
        del self.model.graph.node[:]
        self.model.graph.node.extend([*nodes[:where], *written, *nodes[where:]])


def good(body: int = HALF, opset: int = 20) -> Drawn:
    """One step of a tiny model that breaks no rule: N = 1, T = 4 new tokens, 4 cached, d = 8, 2 heads of 4;
    front end in fp32, an int8 MatMul and an int8 Gemm, attention over a cache, LayerNormalization in fp32."""
    g = Drawn(body, opset)
    frames = g.reshape("mel/frames", g.add_input("audio", FLOAT, 1, 32), 4, 8)
    power = g.op("MatMul", "mel/power", frames, g.constant("mel.filters", np.eye(8), FLOAT))
    scaled = g.op("Mul", "mel/scaled", power, g.constant("mel.scale", 2, FLOAT))
    floored = g.op("Max", "mel/floored", scaled, g.constant("mel.floor", 1e-10, FLOAT))
    log = g.op("Log", "mel/log", floored)
    x = g.op("Cast", "mel/tokens", log, to=body)
    wide = g.op("Cast", "block/norm/in", x, to=FLOAT)
    wide = g.op("LayerNormalization", "block/norm", wide, g.constant("ones", np.ones(8), FLOAT))
    normed = g.requantize(g.op("Cast", "block/normed", wide, to=body))
    q = g.op("MatMul", "block/q/product", normed, g.weight("q", 8, 8, axis=1))
    q = g.op("Add", "block/q", q, g.constant("q.bias", np.ones(8)))
    q = g.op("Transpose", "block/q/heads", g.reshape("block/q/split", q, 1, 4, 2, 4), perm=[0, 2, 1, 3])
    q = g.op("Mul", "block/q/scaled", q, g.constant("half", 0.5))
    kv = g.op("MatMul", "block/kv/product", normed, g.weight("kv", 8, 16, axis=1))
    kv = g.reshape("block/kv/split", kv, 1, 4, 4, 4)
    kv = g.op("Transpose", "cache_out_00", kv, perm=[0, 2, 1, 3])
    kv = g.op("Concat", "block/all", g.add_input("cache_in_00", body, 1, 4, 4, 4), kv, axis=2)
    v = g.op("Slice", "block/v", kv, *(g.constant(f"int_{n}", [n], TensorProto.INT64) for n in (2, 4, 1)))
    k = g.op("Slice", "block/k", kv, *(g.constant(f"int_{n}", [n], TensorProto.INT64) for n in (0, 2, 1)))
    logits = g.op("MatMul", "block/logits", q, g.op("Transpose", "block/k/turned", k, perm=[0, 1, 3, 2]))
    mixed = g.op("MatMul", "block/mixed", g.op("Softmax", "block/softmax", logits, axis=-1), v)
    mixed = g.op("Transpose", "block/mixed/tokens", mixed, perm=[0, 2, 1, 3])
    mixed = g.requantize(g.reshape("block/mixed/flat", mixed, 4, 8))
    proj = g.weight("proj", 8, 8, axis=0)
    mixed = g.op("Gemm", "block/proj", mixed, proj, g.constant("proj.bias", np.ones(8)), transB=1)
    x = g.op("Relu", "block/relu", g.op("Add", "block/out", x, mixed))
    g.op("Sigmoid", "scores", g.op("Cast", "head", x, to=FLOAT))
    g.add_output("scores", FLOAT, 4, 8)
    g.add_output("cache_out_00", body, 1, 4, 4, 4)
    return g
