"""The rules that a graph must meet before TensorRT on a Jetson builds an engine from it.

TensorRT's parser rejects some graphs with unhelpful messages. It accepts others, but then the engine is wrong
or slow, or builds on other GPUs but not on an Orin. Each rule says which node breaks it, what was found, and
why. The rules only see the graph; builder options and buffer bindings are checked elsewhere.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from math import prod

import numpy as np
from onnx import NodeProto

from satexport.backends.tensorrt.graph_view import DQ, MOVES, GraphView, Q, view_graph
from satexport.errors import RunError
from satexport.graph.roles import PRODUCTS, Graph

# TensorRT version -> newest opset of a graph for it. The parsers of 10.15 and later read newer opsets, but
# one graph must suit all versions in this table, so the parser of 10.3 decides.
NEWEST_OPSET = {(10, 3): 20, (10, 13): 20, (10, 16): 20, (11, 4): 20}
UNSUPPORTED = {"Attention", "RotaryEmbedding", "RMSNormalization", "TensorScatter", "DFT",
               "DynamicQuantizeLinear", "MatMulInteger"}  # and QLinear*
SHOWN = 5  # rules in a message


@dataclass(frozen=True)
class Violation:
    """A rule that a graph breaks, and where."""

    node: str    # or the tensor, opset or version, if no node breaks the rule
    rule: str
    reason: str  # what was found, and why TensorRT needs something else


Finding = tuple[str, str]  # name of a node (or of what breaks a rule instead), and what was found
Find = Callable[[GraphView], Iterable[Finding]]
Check = Callable[[GraphView, NodeProto], "str | None"]  # what was found at a node that breaks a rule, or None


@dataclass(frozen=True)
class Rule:
    """A condition for every graph that TensorRT builds an engine from."""

    name: str
    reason: str  # with the source
    find: Find   # all places that break the rule


def find_violations(graph: Graph, version: str) -> list[Violation]:
    """Return all violations of a graph for a TensorRT version such as "10.3", in the order of `RULES`. Raises
    the errors of `view_graph`."""
    view = view_graph(graph, version)
    return [Violation(node, rule.name, f"{finding}; {rule.reason}")
            for rule in RULES for node, finding in rule.find(view)]


def check_rules(graph: Graph, version: str) -> None:
    """Raise `RunError` with the first rules that a graph breaks, each with the first node that breaks it."""
    if violations := find_violations(graph, version):
        first = list({v.rule: v for v in reversed(violations)}.values())[::-1]
        shown = [f"{v.node} ({v.rule}): {v.reason}." for v in first[:SHOWN]]
        more = [f"and {len(violations) - len(shown)} more."] if len(violations) > len(shown) else []
        raise RunError(f"this graph is not suitable for TensorRT {version}; it breaks {len(first)} of "
                       f"{len(RULES)} rules:", *shown, *more)


def _name(node: NodeProto) -> str:
    return node.name or next(filter(None, node.output), node.op_type)


def _each(check: Check, *op_types: str) -> Find:
    """Apply a check to every node, or to the nodes of these types."""
    def find(view: GraphView) -> Iterable[Finding]:
        for node in view.graph.node:
            if (not op_types or node.op_type in op_types) and (finding := check(view, node)) is not None:
                yield _name(node), finding
    return find


def _old_version(view: GraphView) -> Iterable[Finding]:
    if view.version < min(NEWEST_OPSET):
        yield ".".join(map(str, view.version)), "it is older"


def _new_opset(view: GraphView) -> Iterable[Finding]:
    newest = NEWEST_OPSET[max((v for v in NEWEST_OPSET if v <= view.version), default=min(NEWEST_OPSET))]
    if view.opset > newest:
        yield f"opset {view.opset}", f"{newest} is the newest"


def _dynamic_shapes(view: GraphView) -> Iterable[Finding]:
    """Only the origins of dynamic shapes: neither what follows from them, nor nodes unknown to ONNX."""
    fixed = {"", *(name for name in view.dtypes if -1 not in view.shapes.get(name, (-1,)))}
    origins = {i.name: [i.name] for i in view.graph.input}
    origins |= {_name(n): list(n.output) for n in view.graph.node if fixed.issuperset(n.input)}
    for origin, tensors in origins.items():
        for tensor in tensors:
            if tensor in view.dtypes and tensor not in fixed:
                yield origin, f"the shape of {tensor} is dynamic"


def _doubles(view: GraphView) -> Iterable[Finding]:
    for tensor, dtype in view.dtypes.items():
        if dtype == "float64":
            producer = view.producers.get(tensor)
            yield _name(producer) if producer else tensor, f"{tensor} is float64"


def _shared_caches(view: GraphView) -> Iterable[Finding]:
    inputs = {value.name for value in view.graph.input}
    return [(value.name, "it is an input and an output") for value in view.graph.output
            if value.name in inputs]


def _fp16_scale_before_19(view: GraphView, node: NodeProto) -> str | None:
    return f"opset {view.opset}" if view.opset < 19 and "float16" in view.floats(node.input[1:2]) else None


def _other_domain(_: GraphView, node: NodeProto) -> str | None:
    return None if node.domain in ("", "ai.onnx") else f"{node.op_type} is from {node.domain}"


def _unsupported(_: GraphView, node: NodeProto) -> str | None:
    refused = node.op_type in UNSUPPORTED or node.op_type.startswith("QLinear")
    return f"it is {node.op_type}" if refused else None


def _subgraph(_: GraphView, node: NodeProto) -> str | None:
    return "it contains a graph" if any(a.HasField("g") or a.graphs for a in node.attribute) else None


def _several_outputs(_: GraphView, node: NodeProto) -> str | None:
    return f"it has {len(node.output)}" if any(node.output[1:]) else None


def _half(view: GraphView, node: NodeProto) -> str | None:
    return "it is in float16" if view.floats(node.input[:1]) == ["float16"] else None


def _front_end(view: GraphView, node: NodeProto) -> str | None:
    if node.name not in view.front_end or node.op_type in ("Cast", Q, DQ):
        return None
    if other := [dtype for dtype in view.floats((*node.input, *node.output)) if dtype != "float32"]:
        return f"it is in {other[0]}"
    return "it is in int8" if view.first_from_int8(node.input) else None


def _mixed_floats(view: GraphView, node: NodeProto, has_scale: bool) -> str | None:
    """Different float dtypes at a node; either of the nodes that have a quantisation scale among their
    tensors, or of the others."""
    is_cast = node.op_type == "Cast"
    is_scaled = node.op_type == Q or view.first_from_int8(node.input) is not None
    dtypes = view.floats((*node.input, *node.output) if is_cast else node.input)
    if len(dtypes) < 2 or is_scaled != has_scale or (is_cast and not is_scaled):
        return None
    return f"it mixes {' and '.join(dtypes)}"


def _float_and_float(view: GraphView, node: NodeProto) -> str | None:
    return _mixed_floats(view, node, has_scale=False)


def _float_and_scale(view: GraphView, node: NodeProto) -> str | None:
    return _mixed_floats(view, node, has_scale=True)


def _int8_attention(view: GraphView, node: NodeProto) -> str | None:
    factors = node.input[:2]
    tensor = None if any(map(view.is_weight, factors)) else view.first_from_int8(factors)
    return tensor and f"{tensor} comes from int8"


def _scale_after_product(view: GraphView, node: NodeProto) -> str | None:
    producers = [view.producers[name] for name in node.input if name in view.producers]
    products = [p.name for p in producers if p.op_type == "MatMul" and not any(map(view.is_weight, p.input))]
    return f"it scales {products[0]}" if products and any(map(view.is_weight, node.input)) else None


def _int8_elsewhere(view: GraphView, node: NodeProto) -> str | None:
    if node.op_type in (*MOVES, "Softmax", "Cast"):
        return None
    tensor = view.first_from_int8(node.input[2:] if node.op_type in PRODUCTS else node.input)
    return tensor and f"{tensor} comes from int8"


def _zero_point(view: GraphView, node: NodeProto) -> str | None:
    zero = "".join(node.input[2:])
    for name in filter(None, (node.output[0] if node.op_type == Q else node.input[0], zero)):
        if view.dtypes.get(name, "int8") != "int8":
            return f"{name} is {view.dtypes[name]}"
    values = view.array(zero) if zero else np.zeros(1)
    if values is None:
        return f"{zero} is computed"
    return f"{zero} is not 0" if values.any() else None


def _bad_scale(view: GraphView, node: NodeProto) -> str | None:
    if (scale := view.array(node.input[1])) is None:
        return f"{node.input[1]} is computed"
    bad = scale[~((scale > 0) & np.isfinite(scale))]
    return f"{bad.size} of {scale.size} are not, such as {bad[0]} in {scale.dtype}" if bad.size else None


def _weight_axis(view: GraphView, node: NodeProto) -> str | None:
    """The output channels of a product are the columns of its weight; for Conv or with transB, the rows."""
    weight = node.input[1]
    if not view.is_weight(weight) or not view.first_from_int8([weight]):
        return None
    if (dq := view.producers[weight]).op_type != DQ:
        return f"{_name(dq)} moves {weight} after its {DQ}"
    shape, scales = view.shapes[weight], view.shapes[dq.input[1]]
    are_rows = node.op_type == "Conv" or any(a.name == "transB" and a.i for a in node.attribute)
    channel_axis = 0 if are_rows else len(shape) - 1
    axis = next((a.i for a in dq.attribute if a.name == "axis"), 1) % len(shape)
    fits = axis == channel_axis and scales == (shape[channel_axis],)
    return None if fits else f"{weight} {shape} has scales {scales} on axis {axis}"


def _several_scales(view: GraphView, node: NodeProto) -> str | None:
    count = prod(view.shapes.get(node.input[1], ()))
    return f"{node.input[0]} has {count} scales" if count > 1 and not view.is_weight(node.input[0]) else None


RULES: tuple[Rule, ...] = (
    Rule("TensorRT version", "10.3 is the first with strong typing and LayerNormalization on a Jetson",
         _old_version),
    Rule("opset", "the parser of 10.3 reads none above 20", _new_opset),
    Rule("opset of fp16 scales", "ONNX has fp16 scales since opset 19", _each(_fp16_scale_before_19, Q, DQ)),
    Rule("static shapes", "without a profile the build fails (tried)", _dynamic_shapes),
    Rule("no float64", "TensorRT converts it to float32 (onnx-tensorrt, operators.md)", _doubles),
    Rule("standard domain", "the parser only knows the operators of ONNX", _each(_other_domain)),
    Rule("known operators", "not every parser supports it (operators.md): use simpler nodes",
         _each(_unsupported)),
    Rule("no subgraphs", "these rules do not look inside", _each(_subgraph)),
    Rule("one LayerNormalization output", "the parser only returns the first (operators.md)",
         _each(_several_outputs, "LayerNormalization")),
    Rule("LayerNormalization in fp32", "fp16 overflows in it (NVIDIA/TensorRT#2564, #4493)",
         _each(_half, "LayerNormalization")),
    Rule("front end in fp32", "decibels need its range and precision", _each(_front_end)),
    Rule("one float dtype", "strongly typed networks convert nothing (tried): add a Cast",
         _each(_float_and_float)),
    Rule("attention in float", "partly quantised attention has no fused kernel (NVIDIA/TensorRT#4167)",
         _each(_int8_attention, "MatMul", "Gemm", "Softmax")),
    Rule("scale before the product", "a fused attention has Q scaled",
         _each(_scale_after_product, "Mul", "Div")),
    Rule("int8 only in products", "biases, LayerNormalization and other nodes stay in float",
         _each(_int8_elsewhere)),
    Rule("int8 with zero point 0", "others are rejected, or computed as if it were 0",
         _each(_zero_point, Q, DQ)),
    Rule("scales above 0", "others are rejected, and small ones become 0 in fp16", _each(_bad_scale, Q, DQ)),
    Rule("scale dtype", "a scale must have its readers' dtype, or Orin builds nothing (NVIDIA/TensorRT#4832)",
         _each(_float_and_scale)),
    Rule("weights per output channel", "int8 products need it to be accurate",
         _each(_weight_axis, *PRODUCTS)),
    Rule("activations per tensor", "an int8 product has one scale for them", _each(_several_scales, Q, DQ)),
    Rule("separate cache buffers", "otherwise a step writes the buffer that it reads (NVIDIA/TensorRT#4681)",
         _shared_caches),
)
