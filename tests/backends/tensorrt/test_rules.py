"""A graph that TensorRT can be asked to build breaks no rule; each rule has a graph that breaks it alone."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import onnx
import pytest
from numpy.typing import ArrayLike
from onnx import TensorProto, helper, numpy_helper

from satexport.backends.tensorrt.rules import NEWEST_OPSET, RULES, check_rules, find_violations
from satexport.bundle.roles import Role
from satexport.bundle.target import Quantization
from satexport.errors import RunError, UsageError
from satexport.graph.roles import Graph
from satexport.quantize.int8 import quantize
from satexport.quantize.products import products
from tests.models.sat.graphs import exported

FLOAT, HALF = TensorProto.FLOAT, TensorProto.FLOAT16
INT8, DOUBLE = TensorProto.INT8, TensorProto.DOUBLE
NORMED = "block/normed/quantized"


class Drawn:
    """A graph that is being written, or spoiled."""

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
    """One step of a tiny model, N = 1, T = 4 new tokens, 4 cached, d = 8, 2 heads of 4: front end in fp32, an
    int8 MatMul and an int8 Gemm, attention over a cache, LayerNormalization in fp32."""
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


@pytest.mark.parametrize("version", [".".join(map(str, v)) for v in NEWEST_OPSET] + ["10.3.0.30", "10.9"])
@pytest.mark.parametrize(("body", "opset"), [(HALF, 20), (HALF, 19), (FLOAT, 20), (FLOAT, 17)])
def test_a_good_graph_breaks_no_rule(version: str, body: int, opset: int) -> None:
    graph = good(body, opset).graph
    model = graph.model
    onnx.checker.check_model(model, full_check=True)
    before = model.SerializeToString()
    assert find_violations(graph, version) == []
    check_rules(graph, version)
    assert model.SerializeToString() == before


def test_the_graphs_that_we_write_break_no_rule() -> None:
    wanted = Quantization(scheme="qdq", symmetric=True, operators=("linear", "patch", "head"))
    graph = exported("sat-t", 1)
    ranges = {x: (-4.0, 4.0) for product in products(graph, wanted) for x in product.activations}
    assert find_violations(graph, "10.3") == []
    assert find_violations(quantize(graph, wanted, ranges, []), "10.3") == []


# Each spoils the good graph so that it breaks one rule.

def nothing(g: Drawn) -> None:
    """The graph is good, but not for this TensorRT."""


def half_quantised_below_19(g: Drawn) -> None:
    half = g.op("Cast", "low", "mel/tokens", to=HALF)
    scale, zero = g.constant("low/scale", 0.1, HALF), g.constant("low/zero", 0, INT8)
    g.add_output(g.op("QuantizeLinear", "low/quantized", half, scale, zero), INT8, 4, 8)


def free_input(g: Drawn) -> None:
    g.model.graph.input[0].type.tensor_type.shape.dim[0].dim_param = "streams"


def free_node(g: Drawn) -> None:
    found = g.op("NonZero", "found", "mel/tokens")
    g.add_output(g.op("Cast", "found/float", found, to=FLOAT), FLOAT, 2, None)  # free as well, but no news


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
    """int8 and back before an input of a node."""
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
    """Which is uint8 to ONNX."""
    for name in (NORMED, f"{NORMED}/float"):
        del g.node(name).input[2]


def computed(place: int) -> Callable[[Drawn], None]:
    def spoil(g: Drawn) -> None:
        g.behind(NORMED, place, lambda x: g.op("Abs", "computed", x))
    return spoil


def put(name: str, values: ArrayLike, dtype: int = HALF) -> Callable[[Drawn], str]:
    """Other values for a constant."""
    return lambda g: g.constant(name, values, dtype)


def other_scale(node: str) -> Callable[[Drawn], None]:
    """A scale in fp32 among fp16."""
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
    node: str  # one of those that are named
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
    Case("no double", "q.wide", double_constant),
    Case("no double", "wide", double_node),
    Case("standard domain", "fast", foreign),
    *(Case("known operators", kind, refused(kind, "mel/tokens")) for kind in (
        "Attention", "RotaryEmbedding", "RMSNormalization", "TensorScatter", "DFT")),
    Case("known operators", "DynamicQuantizeLinear", refused("DynamicQuantizeLinear", "mel/log", outputs=3)),
    Case("known operators", "MatMulInteger", refused("MatMulInteger", NORMED, "q.int8")),
    Case("known operators", "QLinearMatMul", refused(
        "QLinearMatMul", NORMED, "half", "q.zero", "q.int8", "half", "q.zero", "half", "q.zero")),
    Case("flat graph", "either", nested),
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
    Case("int8 in products alone", "block/norm", quantised("block/norm", 0, FLOAT)),
    Case("int8 in products alone", "block/relu", quantised("block/relu", 0)),
    Case("int8 in products alone", "block/proj", int8_bias),
    Case("int8 in products alone", "block/q", int8_added_bias),
    Case("int8 around zero", NORMED, put("block/normed/zero", 0, TensorProto.UINT8)),
    Case("int8 around zero", NORMED, put("block/normed/zero", 3, INT8)),
    Case("int8 around zero", "q.int8/float", put("q.zero", np.arange(8), INT8)),
    Case("int8 around zero", NORMED, no_zero_point),
    Case("int8 around zero", NORMED, computed(2)),
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
    Case("caches apart", "cache_in_00", one_buffer),
)


@pytest.mark.parametrize("case", CASES, ids=lambda case: f"{case.rule}: {case.node}")
def test_a_spoiled_graph_breaks_one_rule_at_the_node(case: Case) -> None:
    g = good(case.body, case.opset)
    case.spoil(g)
    broken = find_violations(g.graph, case.version)
    assert {b.rule for b in broken} == {case.rule}
    assert case.node in {b.node for b in broken}


def test_what_gates_attention_is_no_scale() -> None:
    g = good()
    g.behind("block/mixed/tokens", 0, lambda x: g.op("Mul", "gated", x, "block/q/scaled"))
    assert find_violations(g.graph, "10.3") == []


def test_the_newest_opset_is_that_of_the_version_before(monkeypatch: pytest.MonkeyPatch) -> None:
    newest = {(10, 3): 20, (10, 13): 22, (11, 4): 25}
    monkeypatch.setattr("satexport.backends.tensorrt.rules.NEWEST_OPSET", newest)
    graph = good(opset=22).graph
    assert [b.node for b in find_violations(graph, "10.9")] == ["opset 22"]
    assert find_violations(graph, "10.13.2") == find_violations(graph, "11.4") == []


def test_each_rule_is_broken_by_some_case() -> None:
    assert {case.rule for case in CASES} == {rule.name for rule in RULES}
    assert len({rule.name for rule in RULES}) == len(RULES)


def test_what_follows_a_free_shape_is_not_named() -> None:
    g = good()
    free_node(g)
    assert [b.node for b in find_violations(g.graph, "10.3")] == ["found"]


def test_the_message_names_the_first_rules_and_counts_the_rest() -> None:
    g = good()
    for spoil in (foreign, half_norm, many_scales, late_scale, wrong_axis, one_buffer):
        spoil(g)
    broken = find_violations(g.graph, "10.3")
    with pytest.raises(RunError) as error:
        check_rules(g.graph, "10.3")
    first, *lines, last = str(error.value).split("\n")
    assert first == ("TensorRT 10.3 is not asked to build this graph, which breaks 6 of "
                     f"{len(RULES)} rules:")
    assert lines[0] == ("  fast (standard domain): FastGelu is of com.microsoft; "
                        "the parser knows the operators of ONNX alone.")
    assert [line.partition("(")[2].partition(")")[0] for line in lines] == list(
        dict.fromkeys(b.rule for b in broken))[:5]
    assert last == f"  and {len(broken) - 5} more."


def test_a_message_of_one_rule_counts_no_more() -> None:
    g = good()
    one_buffer(g)
    with pytest.raises(RunError, match=r"breaks 1 of .*\n  cache_in_00 \(caches apart\): .*#4681\)\.$"):
        check_rules(g.graph, "10.3")


@pytest.mark.parametrize("version", ["", "10", "10.x", "v10.3", "10.3 "])
def test_a_version_that_is_none_is_refused(version: str) -> None:
    with pytest.raises(UsageError, match=r"expected one such as 10\.3"):
        find_violations(good().graph, version)


def test_a_graph_that_contradicts_itself_is_refused() -> None:
    g = good()
    g.constant("q.bias", np.ones(7))
    with pytest.raises(RunError, match=r"contradict each other.*block/q"):
        find_violations(g.graph, "10.3")


def test_nodes_without_names_are_known_by_what_they_write() -> None:
    g = good()
    half_norm(g)
    for node in g.model.graph.node:
        node.name = ""
    assert "block/norm" in {b.node for b in find_violations(g.graph, "10.3")}
