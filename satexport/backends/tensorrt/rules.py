"""What a graph must be before TensorRT on a Jetson is asked to build an engine of it: a table of rules.

TensorRT's parser rejects some graphs, in words of its own; others it takes, and the engine is wrong, or
slow, or is not built on an Orin though it is elsewhere. A rule says which node, what was found, and why.
It sees the graph alone: what the builder is told and which buffers are bound is checked where that is done.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from math import prod
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import NodeProto, TensorProto, helper, numpy_helper

from satexport.bundle.roles import FRONT
from satexport.errors import RunError, UsageError
from satexport.graph.edit import opset_of
from satexport.graph.operations import PRODUCTS
from satexport.graph.roles import Graph

# TensorRT's version, and the newest opset of a graph for it. Parsers of 10.15 and later know more, but one
# graph is for all versions of this table, so 10.3's parser decides.
NEWEST_OPSET = {(10, 3): 20, (10, 13): 20, (10, 16): 20, (11, 4): 20}
REFUSED = {"Attention", "RotaryEmbedding", "RMSNormalization", "TensorScatter", "DFT",
           "DynamicQuantizeLinear", "MatMulInteger"}  # and QLinear*
Q, DQ = "QuantizeLinear", "DequantizeLinear"
MOVES = ("Concat", "Expand", "Flatten", "Gather", "Identity", "Pad", "Reshape", "Slice", "Split", "Squeeze",
         "Transpose", "Unsqueeze")  # values stay what they are
FLOATS = ("float32", "float16", "bfloat16")
SHOWN = 5  # rules in a message


@dataclass(frozen=True)
class Violation:
    """A rule that a graph breaks, and where."""

    node: str    # or the tensor, opset or version where there is no node
    rule: str
    reason: str  # what was found, and why TensorRT needs it otherwise


@dataclass(frozen=True, kw_only=True)
class View:
    """A graph as the rules see it."""

    graph: onnx.GraphProto
    front_end: frozenset[str]              # names of nodes
    version: tuple[int, ...]               # of TensorRT
    opset: int
    producers: Mapping[str, NodeProto]     # by tensor, as all that follows
    constants: Mapping[str, TensorProto]
    dtypes: Mapping[str, str]              # as far as they are known
    shapes: Mapping[str, tuple[int, ...]]  # where the rank is known; -1 where a size is not

    def array(self, tensor: str) -> NDArray[Any] | None:
        """The values of a constant."""
        return numpy_helper.to_array(self.constants[tensor]) if tensor in self.constants else None

    def floats(self, tensors: Iterable[str]) -> list[str]:
        """The float dtypes among tensors."""
        return sorted({self.dtypes.get(tensor, "") for tensor in tensors}.intersection(FLOATS))

    def is_weight(self, tensor: str) -> bool:
        """Is a tensor a constant, perhaps quantised, cast or moved?"""
        node = self.producers.get(tensor)
        return tensor in self.constants or (node is not None and node.op_type in (*MOVES, Q, DQ, "Cast")
                                            and all(self.is_weight(name) for name in node.input if name))

    def from_int8(self, tensors: Iterable[str]) -> str:
        """The first tensor that was dequantised, and perhaps moved since; "" where none was."""
        nodes = {tensor: self.producers[tensor] for tensor in tensors if tensor in self.producers}
        return next((tensor for tensor, node in nodes.items() if node.op_type == DQ or (
            node.op_type in MOVES and self.from_int8(node.input))), "")


Find = Callable[[View], Iterable[tuple[str, str]]]  # node, or what stands for it, and what was found


@dataclass(frozen=True)
class Rule:
    """What holds for every graph that TensorRT is asked to build."""

    name: str
    reason: str  # with the source
    find: Find   # where it does not hold


def find_violations(graph: Graph, version: str) -> list[Violation]:
    """What keeps a TensorRT of a version such as "10.3" from the graph, in the order of `RULES`. Raises
    `UsageError` for a version that is none, `RunError` for a graph that contradicts itself."""
    view = _view(graph, version)
    return [Violation(node, rule.name, f"{found}; {rule.reason}")
            for rule in RULES for node, found in rule.find(view)]


def check_rules(graph: Graph, version: str) -> None:
    """Raise `RunError` with the first broken rules, each with the first node that breaks it."""
    if broken := find_violations(graph, version):
        first = list({b.rule: b for b in reversed(broken)}.values())[::-1]
        shown = [f"{b.node} ({b.rule}): {b.reason}." for b in first[:SHOWN]]
        more = [f"and {len(broken) - len(shown)} more."] if len(broken) > len(shown) else []
        raise RunError(f"TensorRT {version} is not asked to build this graph, which breaks {len(first)} of "
                       f"{len(RULES)} rules:", *shown, *more)


def _view(source: Graph, version: str) -> View:
    model = source.model
    if not re.fullmatch(r"\d+(\.\d+)+", version):
        raise UsageError(f"TensorRT version {version!r}: expected one such as 10.3.")
    try:
        known = onnx.shape_inference.infer_shapes(model, strict_mode=True).graph
    except onnx.shape_inference.InferenceError as error:
        raise RunError(f"the graph's shapes or dtypes contradict each other: {error}") from None
    constants = {constant.name: constant for constant in model.graph.initializer}
    types = {name: constant.data_type for name, constant in constants.items()}
    shapes = {name: tuple(constant.dims) for name, constant in constants.items()}
    for value in (*known.input, *known.value_info, *known.output):
        kind = value.type.tensor_type
        types[value.name] = kind.elem_type
        if kind.HasField("shape"):
            shapes[value.name] = tuple(d.dim_value if d.HasField("dim_value") else -1 for d in kind.shape.dim)
    dtypes = {name: helper.tensor_dtype_to_np_dtype(kind).name for name, kind in types.items() if kind}
    front_end = frozenset(node.name for node in model.graph.node if source.kind(node) == FRONT)
    producers = {tensor: node for node in model.graph.node for tensor in node.output}
    return View(graph=model.graph, front_end=front_end, version=tuple(map(int, version.split("."))),
                opset=opset_of(model), producers=producers, constants=constants, dtypes=dtypes, shapes=shapes)


def _each(judge: Callable[[View, NodeProto], object], *kinds: str) -> Find:
    """The nodes, of some kinds where such are named, of which `judge` has something to say."""
    return lambda view: [(_name(node), str(found)) for node in view.graph.node
                         if node.op_type in kinds or not kinds if (found := judge(view, node))]


def _name(node: NodeProto) -> str:
    return node.name or next(filter(None, node.output), node.op_type)


def _too_new(view: View) -> Iterable[tuple[str, str]]:
    newest = NEWEST_OPSET[max((v for v in NEWEST_OPSET if v <= view.version), default=min(NEWEST_OPSET))]
    return [(f"opset {view.opset}", f"{newest} is the newest")] if view.opset > newest else []


def _free(view: View) -> Iterable[tuple[str, str]]:
    """Where a free shape arises, not in what follows, nor behind operators that ONNX does not know."""
    fixed = {"", *(name for name in view.dtypes if -1 not in view.shapes.get(name, (-1,)))}
    arise = {i.name: [i.name] for i in view.graph.input}
    arise |= {_name(n): list(n.output) for n in view.graph.node if fixed.issuperset(n.input)}
    return [(where, f"the shape of {name} is free") for where, names in arise.items()
            for name in names if name in view.dtypes and name not in fixed]


def _mixed(scales: bool) -> Find:
    """Nodes in which float dtypes meet, that of a scale among them or not."""
    def judge(view: View, node: NodeProto) -> object:
        scaled, cast = node.op_type == Q or bool(view.from_int8(node.input)), node.op_type == "Cast"
        dtypes = view.floats((*node.input, *node.output) if cast else node.input)
        return len(dtypes) > 1 and scaled == scales and scaled >= cast and f"{' and '.join(dtypes)} meet"
    return _each(judge)


def _front_end(view: View, node: NodeProto) -> object:
    if node.name not in view.front_end or node.op_type in ("Cast", Q, DQ):
        return ""
    if other := [d for d in view.floats((*node.input, *node.output)) if d != "float32"]:
        return f"it is in {other[0]}"
    return view.from_int8(node.input) and "it is in int8"


def _scaled_late(view: View, node: NodeProto) -> object:
    before = [view.producers[name] for name in node.input if name in view.producers]
    late = [p.name for p in before if p.op_type == "MatMul" and not any(map(view.is_weight, p.input))]
    return late and any(map(view.is_weight, node.input)) and f"it scales {late[0]}"


def _around_zero(view: View, node: NodeProto) -> object:
    zero = "".join(node.input[2:])
    for name in filter(None, (node.output[0] if node.op_type == Q else node.input[0], zero)):
        if view.dtypes.get(name, "int8") != "int8":
            return f"{name} is {view.dtypes[name]}"
    values = view.array(zero) if zero else np.zeros(1)
    return f"{zero} is computed" if values is None else values.any() and f"{zero} is not 0"


def _above_zero(view: View, node: NodeProto) -> object:
    if (scale := view.array(node.input[1])) is None:
        return f"{node.input[1]} is computed"
    bad = scale[~((scale > 0) & np.isfinite(scale))]
    return bad.size and f"{bad.size} of {scale.size} are not, such as {bad[0]} in {scale.dtype}"


def _channels(view: View, node: NodeProto) -> object:
    """The output channels of a product are columns of its weight, or rows of a Conv's or of a turned one."""
    weight = node.input[1]
    if not (view.is_weight(weight) and view.from_int8([weight])):
        return ""
    if (dq := view.producers[weight]).op_type != DQ:
        return f"{_name(dq)} moves {weight} behind its {DQ}"
    shape, scales = view.shapes[weight], view.shapes[dq.input[1]]
    rows = node.op_type == "Conv" or any(a.name == "transB" and a.i for a in node.attribute)
    channels = 0 if rows else len(shape) - 1
    axis = next((a.i for a in dq.attribute if a.name == "axis"), 1) % len(shape)
    fits = axis == channels and scales == (shape[channels],)
    return not fits and f"{weight} {shape} has scales {scales} on axis {axis}"


RULES: tuple[Rule, ...] = (
    Rule("TensorRT version", "10.3 is the first with strong typing and LayerNormalization on a Jetson",
         lambda v: [(".".join(map(str, v.version)), "it is older")] if v.version < min(NEWEST_OPSET) else []),
    Rule("opset", "10.3's parser knows none above 20", _too_new),
    Rule("opset of fp16 scales", "ONNX has such scales since 19", _each(
        lambda v, n: v.opset < 19 and "float16" in v.floats(n.input[1:2]) and f"opset {v.opset}", Q, DQ)),
    Rule("static shapes", "without a profile the build fails (tried)", _free),
    Rule("no double", "TensorRT makes it float32 (onnx-tensorrt, operators.md)", lambda v: [
        (_name(v.producers[t]) if t in v.producers else t, f"{t} is float64")
        for t, dtype in v.dtypes.items() if dtype == "float64"]),
    Rule("standard domain", "the parser knows the operators of ONNX alone", _each(
        lambda v, n: n.domain not in ("", "ai.onnx") and f"{n.op_type} is of {n.domain}")),
    Rule("known operators", "not every parser takes it (operators.md): write it in simpler nodes", _each(
        lambda v, n: (n.op_type in REFUSED or n.op_type.startswith("QLinear")) and f"it is {n.op_type}")),
    Rule("flat graph", "these rules do not look inside", _each(
        lambda v, n: any(a.HasField("g") or a.graphs for a in n.attribute) and "it holds a graph")),
    Rule("one LayerNormalization output", "the parser gives the first alone (operators.md)", _each(
        lambda v, n: any(n.output[1:]) and f"it has {len(n.output)}", "LayerNormalization")),
    Rule("LayerNormalization in fp32", "fp16 overflows in it (NVIDIA/TensorRT#2564, #4493)", _each(
        lambda v, n: v.floats(n.input[:1]) == ["float16"] and "it is in float16", "LayerNormalization")),
    Rule("front end in fp32", "decibels need its range and its digits", _each(_front_end)),
    Rule("one float dtype", "strongly typed, nothing is converted (tried): put a Cast", _mixed(scales=False)),
    Rule("attention in float", "half-quantised it has no fused kernel (NVIDIA/TensorRT#4167)", _each(
        lambda v, n: not any(map(v.is_weight, n.input[:2])) and (
            x := v.from_int8(n.input[:2])) and f"{x} comes from int8", "MatMul", "Gemm", "Softmax")),
    Rule("scale before the product", "a fused attention has Q scaled", _each(_scaled_late, "Mul", "Div")),
    Rule("int8 in products alone", "biases, LayerNormalization and all else stay in float", _each(
        lambda v, n: n.op_type not in (*MOVES, "Softmax", "Cast") and (x := v.from_int8(
            n.input[2:] if n.op_type in PRODUCTS else n.input)) and f"{x} comes from int8")),
    Rule("int8 around zero", "all else is rejected, or read as if it were", _each(_around_zero, Q, DQ)),
    Rule("scales above 0", "others are rejected, and in fp16 small ones become 0", _each(_above_zero, Q, DQ)),
    Rule("scale dtype", "a scale has its readers' dtype, or Orin builds nothing (NVIDIA/TensorRT#4832)",
         _mixed(scales=True)),
    Rule("weights per output channel", "int8 products need it to be accurate", _each(_channels, *PRODUCTS)),
    Rule("activations per tensor", "an int8 product has one scale for them", _each(
        lambda v, n: (count := prod(v.shapes.get(n.input[1], ()))) > 1 and not v.is_weight(n.input[0]) and
        f"{n.input[0]} has {count} scales", Q, DQ)),
    Rule("caches apart", "a step would write the buffer that it reads (NVIDIA/TensorRT#4681)", lambda v: [
        (o.name, "it is an input") for o in v.graph.output if o.name in [i.name for i in v.graph.input]]),
)
