"""int8 graphs: their nodes, how close their scores are, and what is refused."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import numpy_helper

from satexport.backends.onnxruntime.step import OnnxRuntimeStep
from satexport.bundle.folder import open_bundle
from satexport.bundle.target import OPERATORS, Quantization
from satexport.errors import DataError, UsageError
from satexport.graph.roles import Graph
from satexport.parity.golden import golden_scores
from satexport.quantize.calibrate import calibrate
from satexport.quantize.factors import Ranges
from satexport.quantize.int8 import quantize
from satexport.quantize.observe import Sample
from satexport.quantize.products import check_layers, find_layers
from satexport.quantize.ranges import find_ranges
from satexport.tagging.stream import StreamBatch
from tests.bundle.copies import graph_of
from tests.tiny import DEPTH, FEW

STATIC = Quantization()


@pytest.fixture(scope="module")
def samples(tiny: Path) -> list[Sample]:
    return calibrate(open_bundle(tiny), FEW).samples


@pytest.fixture(scope="module")
def fp32(tiny: Path) -> Graph:
    return graph_of(open_bundle(tiny))


@pytest.fixture(scope="module")
def ranges(fp32: Graph, samples: list[Sample]) -> Ranges:
    return find_ranges(fp32, STATIC, samples)


@pytest.fixture(scope="module")
def all_ranges(fp32: Graph, samples: list[Sample]) -> Ranges:
    return find_ranges(fp32, replace(STATIC, operators=OPERATORS), samples)


def largest_difference(tiny: Path, model: onnx.ModelProto) -> float:
    """Score differences from PyTorch over the golden chunks."""
    bundle = open_bundle(tiny)
    audio, (expected, _) = bundle.golden()
    step = OnnxRuntimeStep(model.SerializeToString(), bundle.contract, bundle.initial_cache())
    return float(np.abs(golden_scores(StreamBatch(step, bundle.contract), audio)[0] - expected).max())


def layers_bytes(model: onnx.ModelProto) -> int:
    """Bytes of the weight matrices in the blocks."""
    return sum(i.ByteSize() for i in model.graph.initializer if len(i.dims) == 2 and i.name[:2].isdecimal())


@pytest.mark.parametrize(("changes", "kinds"), [
    ({}, {"MatMulIntegerToFloat": 5 * DEPTH + 1, "QuantizeLinear": 4 * DEPTH + 1}),
    ({"symmetric": True}, {"MatMulIntegerToFloat": 5 * DEPTH + 1}),
    ({"per_channel": False}, {"MatMulIntegerToFloat": 5 * DEPTH + 1}),
    ({"weight_bits": 7}, {"MatMulIntegerToFloat": 5 * DEPTH + 1}),
    ({"scheme": "qdq"}, {"QuantizeLinear": 4 * DEPTH + 1, "DequantizeLinear": 9 * DEPTH + 1}),
    ({"scheme": "qdq", "symmetric": True}, {
        "QuantizeLinear": 4 * DEPTH + 1, "DequantizeLinear": 9 * DEPTH + 1}),
    ({"method": "dynamic"}, {"DynamicQuantizeLinear": 4 * DEPTH + 1, "MatMulInteger": 5 * DEPTH + 1})],
    ids=lambda value: str(value) if "method" in value or len(value) < 2 else "")
def test_an_int8_graph_has_the_nodes_of_its_scheme_and_scores_like_pytorch(
        tiny: Path, fp32: Graph, ranges: Ranges, changes: dict[str, object],
        kinds: dict[str, int]) -> None:
    model = quantize(fp32, replace(STATIC, **changes), ranges, ()).model  # type: ignore[arg-type]
    found = Counter(node.op_type for node in model.graph.node)
    assert {kind: found[kind] for kind in kinds} == kinds
    weights = [node.input[1] for node in model.graph.node if "MatMulInteger" in node.op_type]
    assert len(set(weights)) == len(weights)  # ONNX Runtime refuses others on a CPU without dot products
    assert 1e-6 < largest_difference(tiny, model) < 0.05
    assert 0.2 < layers_bytes(model) / layers_bytes(fp32.model) < 0.3
    assert model.metadata_props == fp32.model.metadata_props


@pytest.mark.parametrize(("operators", "integer"), [(("patch",), 1), (("head",), 1), (
    ("attention",), 2 * DEPTH), (OPERATORS, 7 * DEPTH + 3)], ids=str)
@pytest.mark.parametrize(
    "how", [{"scheme": "onnxruntime"}, {"scheme": "qdq"}, {"method": "dynamic"}], ids=str)
def test_the_operators_that_a_target_names_are_quantised_and_no_others(
        tiny: Path, fp32: Graph, all_ranges: Ranges, operators: tuple[str, ...], integer: int,
        how: dict[str, str]) -> None:
    wanted = replace(STATIC, operators=operators, **how)  # type: ignore[arg-type]
    model = quantize(fp32, wanted, all_ranges, ()).model
    made = {node.output[0]: node.op_type for node in model.graph.node}
    products = [node for node in model.graph.node if "Integer" in node.op_type or (
        node.op_type in ("MatMul", "Gemm") and made.get(node.input[1]) == "DequantizeLinear")]
    assert len(products) == integer
    assert len(find_layers(fp32, wanted)) == integer - (operators == OPERATORS)  # 00.kv has two products
    assert 1e-6 < largest_difference(tiny, model) < 0.1


def test_the_second_factor_of_attention_has_the_bits_of_a_weight(fp32: Graph, all_ranges: Ranges) -> None:
    scales = []
    for bits in (8, 7):
        wanted = replace(STATIC, operators=("attention",), weight_bits=bits)
        graph = quantize(fp32, wanted, all_ranges, ()).model.graph
        constants = {i.name: numpy_helper.to_array(i) for i in graph.initializer}
        zeros = {node.input[1]: constants[node.input[2]] for node in graph.node
                 if node.op_type == "QuantizeLinear"}
        scales.append({scale: constants[scale] for scale, zero in zeros.items() if zero.dtype == np.int8})
    assert len(scales[0]) == 2 * DEPTH
    assert all(np.isclose(scales[1][name], scales[0][name] * 127 / 63) for name in scales[0])


@pytest.mark.parametrize("method", ["percentile", "entropy"])
def test_other_ways_to_find_ranges_give_narrower_ones(
        tiny: Path, fp32: Graph, samples: list[Sample], ranges: Ranges, method: str) -> None:
    wanted = replace(STATIC, ranges=method, percentile=99.9)
    found = find_ranges(fp32, wanted, samples)
    assert set(found) == set(ranges)
    widths = [(high - low, ranges[x][1] - ranges[x][0]) for x, (low, high) in found.items()]
    assert all(narrow <= wide * 2.01 for narrow, wide in widths)  # theirs are around zero
    assert sum(narrow < wide for narrow, wide in widths) > len(widths) / 2
    assert largest_difference(tiny, quantize(fp32, wanted, found, ()).model) < 0.5


def test_ranges_hold_what_streams_with_a_history_show(
        fp32: Graph, samples: list[Sample], ranges: Ranges) -> None:
    """A single chunk is not enough: ranges over all samples are wider, and never narrower."""
    first = find_ranges(fp32, STATIC, samples[:1])
    assert all(ranges[x][0] <= low and high <= ranges[x][1] for x, (low, high) in first.items())
    assert np.mean([(high - low) / (ranges[x][1] - ranges[x][0]) for x, (low, high) in first.items()]) < 0.95


def test_the_symmetric_graph_keeps_to_tensorrts_rules(fp32: Graph, ranges: Ranges) -> None:
    graph = quantize(fp32, replace(STATIC, scheme="qdq", symmetric=True), ranges, ()).model.graph
    constants = {i.name: numpy_helper.to_array(i) for i in graph.initializer}
    assert {node.domain for node in graph.node} == {""}
    produced = {node.output[0]: node for node in graph.node}
    for node in graph.node:
        if node.op_type in ("QuantizeLinear", "DequantizeLinear"):
            scale, zero = (constants[name] for name in node.input[1:])
            assert zero.dtype == np.int8
            assert not zero.any()
            assert (scale > 0).all()
            assert scale.dtype == np.float32
            if node.input[0] in constants:  # a weight: a scale for each output channel
                assert constants[node.input[0]].dtype == np.int8
                assert scale.shape == (constants[node.input[0]].shape[1],)
            else:
                assert scale.shape == ()
        if node.op_type in ("MatMul", "Gemm"):
            sources = [produced[name].op_type if name in produced else "" for name in node.input[:2]]
            assert sources.count("DequantizeLinear") in (0, 2)


def test_layers_that_are_left_out_stay_in_float(tiny: Path, fp32: Graph, ranges: Ranges) -> None:
    names = find_layers(fp32, STATIC)
    assert names[:5] == ["00.q", "00.kv", "00.proj", "00.fc1", "00.fc2"]
    assert len(names) == 5 * DEPTH
    model = quantize(fp32, STATIC, ranges, ["00.fc1", "01.kv"]).model
    kept = {i.name for i in model.graph.initializer}
    assert {"00.fc1.weight", "01.kv.weight"} <= kept
    assert "00.fc2.weight" not in kept
    everything = quantize(fp32, STATIC, ranges, names).model
    assert largest_difference(tiny, everything) < 1e-5
    with pytest.raises(UsageError, match=r"no layer 'fc1' to leave out; the layers are 00\.q"):
        quantize(fp32, STATIC, ranges, ["fc1"])


@pytest.mark.parametrize("scheme", ["onnxruntime", "qdq"])
def test_a_graph_that_is_quantised_already_is_refused(
        fp32: Graph, ranges: Ranges, scheme: str) -> None:
    done = quantize(fp32, replace(STATIC, scheme=scheme), ranges, ())
    with pytest.raises(DataError, match="quantised already"):
        quantize(done, STATIC, ranges, ())


def test_a_graph_without_any_product_to_quantize_is_refused_and_not_called_int8(fp32: Graph) -> None:
    bare = Graph(fp32.model, {})
    with pytest.raises(UsageError, match=r"no product .*operators \(linear\): nothing would be int8"):
        check_layers(bare, STATIC, [])
