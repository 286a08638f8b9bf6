"""A good graph breaks no rule for TensorRT; for each rule there is a graph that breaks only this rule."""

from __future__ import annotations

import numpy as np
import onnx
import pytest

from satexport.backends.tensorrt.rules import NEWEST_OPSET, RULES, check_rules, find_violations
from satexport.bundle.target import Quantization
from satexport.errors import RunError, UsageError
from satexport.quantize.int8 import quantize
from satexport.quantize.products import find_products
from tests.backends.tensorrt.drawn import FLOAT, HALF, good
from tests.backends.tensorrt.spoiled import (
    CASES,
    Case,
    foreign,
    free_node,
    half_norm,
    late_scale,
    many_scales,
    one_buffer,
    wrong_axis,
)
from tests.models.sat.graphs import exported


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
    ranges = {x: (-4.0, 4.0) for product in find_products(graph, wanted) for x in product.activations}
    assert find_violations(graph, "10.3") == []
    assert find_violations(quantize(graph, wanted, ranges, []), "10.3") == []


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
    assert first == f"this graph is not suitable for TensorRT 10.3; it breaks 6 of {len(RULES)} rules:"
    assert lines[0] == ("  fast (standard domain): FastGelu is from com.microsoft; "
                        "the parser only knows the operators of ONNX.")
    assert [line.partition("(")[2].partition(")")[0] for line in lines] == list(
        dict.fromkeys(b.rule for b in broken))[:5]
    assert last == f"  and {len(broken) - 5} more."


def test_a_message_of_one_rule_counts_no_more() -> None:
    g = good()
    one_buffer(g)
    line = r"  cache_in_00 \(separate cache buffers\): .*#4681\)\.$"
    with pytest.raises(RunError, match=r"breaks 1 of .*\n" + line):
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
