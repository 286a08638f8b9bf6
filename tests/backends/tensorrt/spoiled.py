"""Graphs that each break one rule for TensorRT."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import onnx
from numpy.typing import ArrayLike
from onnx import TensorProto, helper

from tests.backends.tensorrt.drawn import DOUBLE, FLOAT, HALF, INT8, NORMED, Drawn

# Each function changes the good graph so that it breaks one rule.

def nothing(g: Drawn) -> None:
    """The graph is good, but not for this TensorRT version."""


def half_quantised_below_19(g: Drawn) -> None:
    half = g.op("Cast", "low", "mel/tokens", to=HALF)
    scale, zero = g.constant("low/scale", 0.1, HALF), g.constant("low/zero", 0, INT8)
    g.add_output(g.op("QuantizeLinear", "low/quantized", half, scale, zero), INT8, 4, 8)


def free_input(g: Drawn) -> None:
    g.model.graph.input[0].type.tensor_type.shape.dim[0].dim_param = "streams"


def free_node(g: Drawn) -> None:
    found = g.op("NonZero", "found", "mel/tokens")
    g.add_output(g.op("Cast", "found/float", found, to=FLOAT), FLOAT, 2, None)  # dynamic as a consequence


def double_constant(g: Drawn) -> None:
    wide = g.constant("q.wide", np.ones(8), DOUBLE)
    g.behind("block/q", 1, lambda _: g.op("Cast", "q.narrow", wide, to=g.body))


def double_node(g: Drawn) -> None:
    g.behind("mel/log", 0, lambda x: g.op("Cast", "narrow", g.op("Cast", "wide", x, to=DOUBLE), to=FLOAT))


def foreign(g: Drawn) -> None:
    g.behind("block/out", 0, lambda x: g.op("FastGelu", "fast", x, domain="com.microsoft"))
    g.model.opset_import.append(helper.make_opsetid("com.microsoft", 1))


def refused(kind: str, *inputs: str, outputs: int = 1) -> Callable[[Drawn], object]:
    written = [f"{kind}_{i}" for i in range(outputs)]
    return lambda g: g.model.graph.node.append(helper.make_node(kind, inputs, written, kind))


def nested(g: Drawn) -> None:
    def branch(name: str) -> onnx.GraphProto:
        out = helper.make_tensor_value_info(name, FLOAT, (4, 8))
        return helper.make_graph([helper.make_node("Identity", ["mel/log"], [name])], name, [], [out])

    true = g.constant("true", True, TensorProto.BOOL)
    g.op("If", "either", true, then_branch=branch("yes"), else_branch=branch("no"))


def second_output(g: Drawn) -> None:
    g.node("block/norm").output.append("block/norm/mean")


def half_norm(g: Drawn) -> None:
    g.node("block/norm/in").attribute[0].i = HALF
    g.constant("ones", np.ones(8), HALF)


def half_front_end(g: Drawn) -> None:
    g.constant("mel.floor", 1e-3, HALF)
    g.behind("mel/floored", 0, lambda x: g.op("Cast", "mel/half", x, to=HALF))
    g.behind("mel/log", 0, lambda x: g.op("Cast", "mel/back", x, to=FLOAT))


def int8_front_end(g: Drawn) -> None:
    g.behind("mel/power", 1, lambda _: g.weight("mel", 8, 8, axis=1, dtype=FLOAT))


def quantised(node: str, place: int, dtype: int | None = None) -> Callable[[Drawn], None]:
    """Quantise and dequantise an input of a node."""
    return lambda g: g.behind(node, place, lambda x: g.requantize(x, dtype))


def int8_bias(g: Drawn) -> None:
    data, scale = g.constant("bias.int8", np.ones(8), INT8), g.constant("bias.scale", 0.02)
    g.behind("block/proj", 2, lambda _: g.op("DequantizeLinear", "bias.int8/float", data, scale))


def int8_added_bias(g: Drawn) -> None:
    data, scale = g.constant("bias.int8", np.ones(8), INT8), g.constant("bias.scale", 0.02)
    g.behind("block/q", 1, lambda _: g.op("DequantizeLinear", "bias.int8/float", data, scale))


def late_scale(g: Drawn) -> None:
    g.behind("block/softmax", 0, lambda x: g.op("Mul", "late", x, "half"))


def no_zero_point(g: Drawn) -> None:
    """Without a zero point ONNX assumes uint8."""
    for name in (NORMED, f"{NORMED}/float"):
        del g.node(name).input[2]


def computed(place: int) -> Callable[[Drawn], None]:
    def spoil(g: Drawn) -> None:
        g.behind(NORMED, place, lambda x: g.op("Abs", "computed", x))
    return spoil


def put(name: str, values: ArrayLike, dtype: int = HALF) -> Callable[[Drawn], str]:
    """Give a constant other values."""
    return lambda g: g.constant(name, values, dtype)


def other_scale(node: str) -> Callable[[Drawn], None]:
    """An fp32 scale among fp16 tensors."""
    return lambda g: g.behind(node, 1, lambda x: g.constant("other.scale", 0.1, FLOAT))


def cast_behind_dequantised(g: Drawn) -> None:
    g.behind("block/norm/in", 0, g.requantize)


def wrong_axis(g: Drawn) -> None:
    g.node("q.int8/float").attribute[0].i = 0


def turned_weight(g: Drawn) -> None:
    g.behind("block/q/product", 1, lambda x: g.op("Transpose", "q.turned", x, perm=[1, 0]))


def many_scales(g: Drawn) -> None:
    g.constant("block/normed/scale", np.full(8, 0.1))
    g.constant("block/normed/zero", np.zeros(8), INT8)


def one_buffer(g: Drawn) -> None:
    g.add_output("cache_in_00", HALF, 1, 4, 4, 4)


@dataclass(frozen=True)
class Case:
    rule: str
    node: str  # one of the nodes in the violations
    spoil: Callable[[Drawn], object]
    body: int = HALF
    opset: int = 20
    version: str = "10.3"


CASES = (
    Case("TensorRT version", "8.5.2", nothing, version="8.5.2"),
    Case("opset", "opset 21", nothing, opset=21),
    Case("opset", "opset 21", nothing, opset=21, version="11.4.1"),
    Case("opset of fp16 scales", "low/quantized", half_quantised_below_19, body=FLOAT, opset=18),
    Case("static shapes", "audio", free_input),
    Case("static shapes", "found", free_node),
    Case("no float64", "q.wide", double_constant),
    Case("no float64", "wide", double_node),
    Case("standard domain", "fast", foreign),
    *(Case("known operators", kind, refused(kind, "mel/tokens")) for kind in (
        "Attention", "RotaryEmbedding", "RMSNormalization", "TensorScatter", "DFT")),
    Case("known operators", "DynamicQuantizeLinear", refused("DynamicQuantizeLinear", "mel/log", outputs=3)),
    Case("known operators", "MatMulInteger", refused("MatMulInteger", NORMED, "q.int8")),
    Case("known operators", "QLinearMatMul", refused(
        "QLinearMatMul", NORMED, "half", "q.zero", "q.int8", "half", "q.zero", "half", "q.zero")),
    Case("no subgraphs", "either", nested),
    Case("one LayerNormalization output", "block/norm", second_output),
    Case("LayerNormalization in fp32", "block/norm", half_norm),
    Case("front end in fp32", "mel/floored", half_front_end),
    Case("front end in fp32", "mel/power", int8_front_end),
    Case("one float dtype", "block/q", put("q.bias", np.ones(8), FLOAT)),
    Case("attention in float", "block/logits", quantised("block/logits", 0)),
    Case("attention in float", "block/logits", quantised("block/k/turned", 0)),
    Case("attention in float", "block/softmax", quantised("block/softmax", 0)),
    Case("attention in float", "block/mixed", quantised("block/mixed", 0)),
    Case("scale before the product", "late", late_scale),
    Case("int8 only in products", "block/norm", quantised("block/norm", 0, FLOAT)),
    Case("int8 only in products", "block/relu", quantised("block/relu", 0)),
    Case("int8 only in products", "block/proj", int8_bias),
    Case("int8 only in products", "block/q", int8_added_bias),
    Case("int8 with zero point 0", NORMED, put("block/normed/zero", 0, TensorProto.UINT8)),
    Case("int8 with zero point 0", NORMED, put("block/normed/zero", 3, INT8)),
    Case("int8 with zero point 0", "q.int8/float", put("q.zero", np.arange(8), INT8)),
    Case("int8 with zero point 0", NORMED, no_zero_point),
    Case("int8 with zero point 0", NORMED, computed(2)),
    Case("scales above 0", NORMED, put("block/normed/scale", 0)),
    Case("scales above 0", "q.int8/float", put("q.scale", np.full(8, 1e-9))),
    Case("scales above 0", "q.int8/float", put("q.scale", [*np.ones(7), -1])),
    Case("scales above 0", "q.int8/float", put("q.scale", [*np.ones(7), np.inf])),
    Case("scales above 0", NORMED, computed(1)),
    Case("scale dtype", NORMED, other_scale(NORMED)),
    Case("scale dtype", "block/q/product", put("q.scale", np.full(8, 0.02), FLOAT)),
    Case("scale dtype", "block/norm/in", cast_behind_dequantised),
    Case("weights per output channel", "block/q/product", put("q.scale", 0.02)),
    Case("weights per output channel", "block/q/product", wrong_axis),
    Case("weights per output channel", "block/q/product", turned_weight),
    Case("activations per tensor", NORMED, many_scales),
    Case("separate cache buffers", "cache_in_00", one_buffer),
)
