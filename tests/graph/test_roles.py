"""Roles: rewriting a graph and counting its operations never depend on the names of nodes."""

from __future__ import annotations

import xml.etree.ElementTree as ET
from collections import Counter
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto

from satexport.backends.onnxruntime.step import OnnxRuntimeStep
from satexport.backends.openvino.backend import resolve
from satexport.backends.openvino.settings import OpenVinoSettings
from satexport.backends.openvino.step import OpenVinoStep
from satexport.backends.openvino.write import write_ir
from satexport.backends.tensorrt.half import to_fp16
from satexport.backends.tensorrt.rules import find_violations
from satexport.bundle.contract import ANY, Contract, GraphOptions
from satexport.bundle.folder import Bundle, open_bundle
from satexport.bundle.roles import FRONT, Role, roles_from_json, roles_to_json
from satexport.bundle.target import OPERATORS, Quantization, Target
from satexport.errors import DataError
from satexport.graph.edit import clone, rename
from satexport.graph.operations import count_operations
from satexport.graph.roles import PRODUCTS, Graph
from satexport.graph.simplify import simplify
from satexport.graph.writer import Writer
from satexport.parity.golden import golden_scores
from satexport.quantize.cache_dtype import store_cache
from satexport.quantize.factors import Ranges
from satexport.quantize.int8 import quantize
from satexport.quantize.products import count_weight_products, find_layers, find_products
from satexport.step import FloatArray, Step
from satexport.tagging.stream import StreamBatch
from satexport.targets import find_target
from tests.bundle.copies import graph_of
from tests.models.sat.graphs import exported
from tests.tiny import DEPTH, SAT, TINY

ALL = Quantization(operators=OPERATORS)


def shuffled(graph: Graph) -> Graph:
    """The same graph, with the names of its nodes and of its inner tensors permuted, also in the table of
    roles."""
    random, model = np.random.default_rng(7), clone(graph.model)
    nodes, fixed = model.graph.node, {v.name for v in (*model.graph.input, *model.graph.output)}
    tensors = {i.name for i in model.graph.initializer} | {t for node in nodes for t in node.output}
    now, new = (dict(zip(names, map(str, random.permutation(names)), strict=True))
                for names in (sorted(tensors - fixed), sorted(node.name for node in nodes)))
    for node in nodes:
        rename(node.input, now)
        rename(node.output, now)
        node.name = new[node.name]
    for named in (*model.graph.initializer, *model.graph.value_info):
        named.name = now[named.name]
    onnx.checker.check_model(model, full_check=True)
    return Graph(model, {new[name]: role for name, role in graph.roles.items()})


@pytest.fixture(scope="module")
def bundle(tiny: Path) -> Bundle:
    return open_bundle(tiny)


@pytest.fixture(scope="module")
def both(bundle: Bundle) -> tuple[Graph, Graph]:
    """A graph, and the same with other names."""
    graph = graph_of(bundle)
    other = shuffled(graph)
    moved = sum(a.name != b.name for a, b in zip(graph.model.graph.node, other.model.graph.node, strict=True))
    assert moved > 0.9 * len(graph.model.graph.node)
    return graph, other


def ranges_of(graph: Graph) -> Ranges:
    """Ranges of the activations of all products: not calibrated, but the same in every graph."""
    return {x: (-4.0, 3.0 + number % 3) for number, product in enumerate(find_products(graph, ALL))
            for x in product.activations}


def scores(bundle: Bundle, graph: Graph) -> FloatArray:
    """The scores of the golden chunks with ONNX Runtime; also checks that the table names nodes of the
    graph."""
    assert set(graph.roles) <= {node.name for node in graph.model.graph.node}
    return run(OnnxRuntimeStep(graph.model.SerializeToString(), bundle.contract, bundle.initial_cache()),
               bundle, bundle.contract)


def run(step: Step, bundle: Bundle, contract: Contract) -> FloatArray:
    return np.asarray(golden_scores(StreamBatch(step, contract), bundle.golden()[0][:4])[0])


def test_the_operations_of_a_graph_with_shuffled_names_are_the_same(both: tuple[Graph, Graph]) -> None:
    graph, other = both
    assert count_operations(other) == count_operations(graph)
    assert count_operations(graph)["front_end"] > 10_000_000


@pytest.mark.parametrize(
    "how", [{"scheme": "onnxruntime"}, {"scheme": "qdq"}, {"method": "dynamic"}], ids=str)
def test_a_graph_with_shuffled_names_is_quantized_the_same_way(
        bundle: Bundle, both: tuple[Graph, Graph], how: dict[str, str]) -> None:
    wanted = replace(ALL, **how)  # type: ignore[arg-type]
    float_layers = ["patch", "01.kv", "02.mixed"]
    assert find_layers(both[0], wanted) == find_layers(both[1], wanted)
    graph, other = (quantize(graph, wanted, ranges_of(graph), float_layers) for graph in both)
    assert Counter(graph.roles.values()) == Counter(other.roles.values())
    np.testing.assert_array_equal(scores(bundle, graph), scores(bundle, other))
    assert not np.array_equal(scores(bundle, graph), scores(bundle, both[0]))
    with pytest.raises(DataError, match="quantised already"):
        find_products(other, wanted)


@pytest.mark.parametrize("dtype", ["fp16", "int8"])
def test_the_cache_of_a_graph_with_shuffled_names_is_stored_the_same_way(
        bundle: Bundle, both: tuple[Graph, Graph], dtype: str) -> None:
    initial = list(bundle.initial_cache())
    samples = [{spec.name: array for spec, array in zip(bundle.contract.cache_in, initial, strict=True)}]
    found = []
    for graph in both:
        stored = store_cache(graph, bundle.contract, dtype, initial, samples)
        assert stored.graph.roles == graph.roles
        step = OnnxRuntimeStep(stored.graph.model.SerializeToString(), stored.contract, stored.initial)
        found.append(run(step, bundle, stored.contract))
    np.testing.assert_array_equal(found[0], found[1])


@pytest.mark.parametrize("int8", [False, True], ids=["fp16", "int8"])
def test_a_graph_with_shuffled_names_is_written_for_tensorrt_the_same_way(
        bundle: Bundle, both: tuple[Graph, Graph], int8: bool) -> None:
    wanted = Quantization(scheme="qdq", symmetric=True, scales="fp16")
    graph, other = (to_fp16(quantize(graph, wanted, ranges_of(graph), []) if int8 else graph)
                    for graph in both)
    np.testing.assert_array_equal(scores(bundle, graph), scores(bundle, other))
    for found in (graph, other):
        assert find_violations(found, "10.3") == []
        front_end = {name for node in found.model.graph.node if found.kind(node) == FRONT
                     for name in (*node.input, *node.output)}
        constants = [i.data_type for i in found.model.graph.initializer if i.name in front_end]
        assert TensorProto.FLOAT16 not in constants
    spoiled = Graph(other.model, {**other.roles, **{  # the rule uses the table too
        node.name: Role(FRONT) for node in other.model.graph.node if node.op_type == "Gelu"}})
    assert {b.rule for b in find_violations(spoiled, "10.3")} == {"front end in fp32"}


def marks(file: Path) -> Counter[tuple[str, str]]:
    """The number of layers of each type that have each attribute."""
    return Counter((layer.get("type", ""), mark.get("name", "")) for layer in ET.parse(file).iter("layer")
                   for mark in layer.iter("attribute"))


def targets() -> list[Target]:
    fp32, int8 = find_target("openvino-fp32"), find_target("openvino-int8")
    return [replace(fp32, options={**fp32.options, "weights": "fp16"}),
            replace(int8, options={**int8.options, "floats": "fp32"})]


@pytest.mark.parametrize("target", targets(), ids=lambda target: target.name)
def test_a_graph_with_shuffled_names_is_written_for_openvino_the_same_way(
        bundle: Bundle, both: tuple[Graph, Graph], target: Target, tmp_path: Path) -> None:
    target, found, attributes, executed = resolve(target), [], [], []
    settings = OpenVinoSettings.of(target)
    for name, graph in zip(("own", "shuffled"), both, strict=True):
        count = 0
        if wanted := target.quantization:
            count = count_weight_products(graph, wanted, [])
            int8 = quantize(graph, wanted, ranges_of(graph), [])
        (folder := tmp_path / name).mkdir()
        write_ir(folder, int8 if wanted else graph, bundle.contract, settings, bundle.initial_cache(), count)
        step = OpenVinoStep(folder / "model.xml", bundle.contract, bundle.initial_cache(), settings)
        attributes.append(marks(folder / "model.xml"))
        executed.append(step.executed())
        found.append(run(step, bundle, bundle.contract))
    np.testing.assert_array_equal(found[0], found[1])
    assert attributes[0] == attributes[1]
    assert sum(count for (_, mark), count in attributes[0].items() if mark == "precise") == 33
    assert executed[0] == executed[1]
    assert executed[0]["front end"]["f32"] > 10


# The origin and content of the table.

@pytest.mark.parametrize(
    "options",
    [GraphOptions(), GraphOptions(cache="hidden", input="mel", streams=3), GraphOptions(streams=ANY)],
    ids=lambda options: options.suffix)
@pytest.mark.parametrize("model", ["sat-t", "sat-s", "vit-t"])
def test_every_product_has_a_role_and_the_front_end_ends_before_the_tokens(
        model: str, options: GraphOptions) -> None:
    if model == "vit-t" and options.cache == "hidden":
        return
    graph = exported(f"{model}-{TINY}", 2, options)
    nodes = graph.model.graph.node
    assert [node.name for node in nodes if node.op_type in PRODUCTS and node.name not in graph.roles] == []
    kinds = Counter(role.kind for role in set(graph.roles.values()))
    assert kinds == {"front_end": 1, "patch": 1, "head": 1, "linear": DEPTH * 5, "attention": DEPTH * 2}
    front_end = [graph.kind(node) == FRONT for node in nodes]
    assert front_end == sorted(front_end, reverse=True)  # it is the first part, without gaps
    made = {name for node in nodes if graph.kind(node) == FRONT for name in node.output}
    assert len({x for node in nodes if graph.kind(node) != FRONT for x in node.input if x in made}) == 1


def test_a_product_that_onnxsim_renames_keeps_its_role() -> None:
    graph = exported(SAT, 2)
    simpler = simplify(graph).graph
    fused = {node.name: node for node in simpler.model.graph.node if node.op_type == "Gemm"}
    assert len(fused) > 3 * DEPTH
    assert not set(fused) & set(graph.roles)
    assert simpler.roles["Gemm_0"] == Role("linear", "00.q")
    assert find_layers(simpler, ALL) == find_layers(graph, ALL)
    assert {node.name for node in simpler.model.graph.node if simpler.kind(node) == FRONT} == {
        node.name for node in graph.model.graph.node if graph.kind(node) == FRONT}


def test_a_graph_of_onnxsim_without_some_layer_is_rejected(
        monkeypatch: pytest.MonkeyPatch) -> None:
    graph = exported(SAT, 2)
    smaller = clone(graph.model)
    del smaller.graph.value_info[:]
    for node in smaller.graph.node:
        rename(node.input, {"block_01/mixed": "x"})
        rename(node.output, {"block_01/mixed": "x"})
    monkeypatch.setattr("onnxsim.simplify", lambda model, **options: (smaller, True))
    simplified = simplify(graph)
    assert simplified.graph is graph
    assert simplified.why_not == "layer attention 01.mixed is missing in it"


def test_nodes_have_the_role_of_the_innermost_block() -> None:
    g = Writer(20)
    g.op("Relu", "before", "x")
    with g.role("linear", "00.fc1"):
        g.op("Relu", "outer", "x")
        with g.role("patch"):
            g.split("inner", "x", 0, 1, 1)
        g.op("Relu", "outer again", "x")
    g.op("Relu", "after", "x")
    assert roles_to_json(g.roles) == {
        "outer": "linear 00.fc1", "inner": "patch", "outer again": "linear 00.fc1"}
    assert roles_from_json(roles_to_json(g.roles)) == g.roles


def test_a_bundle_stores_the_roles_of_its_graph(bundle: Bundle) -> None:
    names = [node.name for node in graph_of(bundle).model.graph.node]
    assert set(bundle.roles) <= set(names)
    assert list(bundle.roles) == [name for name in names if name in bundle.roles]
    assert bundle.roles["block_01/logits"] == Role("attention", "01.logits")


def test_a_product_with_a_computed_weight_is_an_error(both: tuple[Graph, Graph]) -> None:
    model = clone(both[0].model)
    gemm = next(node for node in model.graph.node if node.op_type == "Gemm")
    gemm.input[1] = "computed"
    with pytest.raises(DataError, match=r"the weight of 00\.q is not a constant \(Gemm Gemm_0\)"):
        find_products(Graph(model, both[0].roles), ALL)


def test_a_bias_fused_into_an_int8_product_has_no_role() -> None:
    graph = exported(SAT, 2)
    result = quantize(graph, ALL, ranges_of(graph), ["00.fc2"])
    names = {node.name for node in result.model.graph.node}
    assert set(result.roles) <= names
    assert {"block_00/fc1/sum", "block_00/fc1/product"} - names == {"block_00/fc1/sum"}
    assert result.roles["block_00/fc1/product"] == Role("linear", "00.fc1")
    assert result.roles["block_00/fc2/sum"] == Role("linear", "00.fc2")  # still in float
