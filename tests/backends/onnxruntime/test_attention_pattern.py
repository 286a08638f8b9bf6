"""Attention that differs from the pattern in one place is not fused; parts of the cache that are joined again
are."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import helper, numpy_helper

from satexport.backends.onnxruntime.attention import fuse_attention
from satexport.backends.onnxruntime.in_memory import step_in_memory
from satexport.bundle.folder import open_bundle
from satexport.parity.golden import golden_scores, proof_streams
from satexport.step import FloatArray
from tests.tiny import DEPTH

Change = Callable[[onnx.GraphProto], object]
BLOCK = "block_01"  # 48 new and 48 cached tokens, 48 wide, 3 heads with 16 features
OLD, NEW = "cache_in_01", "cache_out_01"  # keys and values of cached and of new tokens


def node(graph: onnx.GraphProto, name: str) -> onnx.NodeProto:
    """Return the node with this name, or that computes the tensor with it."""
    nodes: Iterable[onnx.NodeProto] = graph.node
    return next(node for node in nodes if f"{BLOCK}/{name}" in (node.name, *node.output))


def axis(name: str, value: int) -> Change:
    return lambda graph: setattr(node(graph, name).attribute[0], "i", value)


def order(name: str, *axes: int) -> Change:
    """Set the permutation of a Transpose."""
    def change(graph: onnx.GraphProto) -> None:
        node(graph, name).attribute[0].ints[:] = axes
    return change


def inputs(name: str, **names: str) -> Change:
    """Set inputs: i0, i1 ... = the name of a tensor."""
    def change(graph: onnx.GraphProto) -> None:
        for position, tensor in names.items():
            node(graph, name).input[int(position[1:])] = tensor
    return change


def constant(name: str, position: int, *values: int, dtype: type[np.generic] = np.int64) -> Change:
    """Set an input to a new constant, which several calls may share."""
    def change(graph: onnx.GraphProto) -> None:
        array = np.array(values, dtype)
        tensor = numpy_helper.from_array(array, f"{dtype.__name__} {values}")
        if tensor.name not in {other.name for other in graph.initializer}:
            graph.initializer.append(tensor)
        node(graph, name).input[position] = tensor.name
    return change


def output(tensor: str) -> Change:
    """Make a tensor an output of the graph."""
    return lambda graph: graph.output.append(helper.make_empty_tensor_value_info(tensor))


def size(position: int, value: int) -> Change:
    """Set a size of the cached keys and values."""
    def change(graph: onnx.GraphProto) -> None:
        (old,) = (value for value in graph.input if value.name == OLD)
        old.type.tensor_type.shape.dim[position].dim_value = value
    return change


def cut_and_join(graph: onnx.GraphProto) -> None:
    """Cut the cached tokens in two, put the first half and the new tokens into a tensor "gap", take them out
    of it again and join all of them in order."""
    joined = node(graph, "all")
    index = list(graph.node).index(joined)
    graph.initializer.extend(numpy_helper.from_array(np.array(sizes), name) for name, sizes in (
        ("halves", [24, 24]), ("cut", [24, 48])))
    added = [helper.make_node("Split", [OLD, "halves"], ["first", "second"], axis=2),
             helper.make_node("Concat", ["first", NEW], ["gap"], axis=2),
             helper.make_node("Split", ["gap", "cut"], ["first/again", "new/again"], axis=2)]
    joined.input[:] = ["first/again", "second", "new/again"]
    for number, extra in enumerate(added):
        graph.node.insert(index + number, extra)


def cut_new(graph: onnx.GraphProto) -> None:
    """Attend to the new tokens alone, cut in two and joined again."""
    graph.initializer.append(numpy_helper.from_array(np.array([24, 24]), "halves"))
    graph.node.insert(list(graph.node).index(node(graph, "all")), helper.make_node(
        "Split", [NEW, "halves"], ["first", "second"], axis=2))
    node(graph, "all").input[:] = ["first", "second"]


def read_again(tensor: str) -> Change:
    """Let another node read a tensor."""
    return lambda graph: graph.node.append(helper.make_node("Relu", [tensor], ["again"]))


def reshape_weights(graph: onnx.GraphProto) -> None:
    """Make weights of rank 3 of those of queries."""
    (weight,) = (constant for constant in graph.initializer if constant.name == "01.q.int8")
    weight.dims.insert(0, 1)


def retype(graph: onnx.GraphProto) -> None:
    """Make uint8 of the int8 weights of queries."""
    (weight,) = (constant for constant in graph.initializer if constant.name == "01.q.int8")
    weight.CopyFrom(numpy_helper.from_array(numpy_helper.to_array(weight).view(np.uint8), weight.name))


DIFFERENT: dict[str, Sequence[Change]] = {
    "softmax along another axis": [axis("softmax", 2)],
    "logits that are an output": [output(f"{BLOCK}/logits")],
    "probabilities that are an output": [output(f"{BLOCK}/softmax")],
    "values times probabilities": [inputs("mixed", i0=f"{BLOCK}/kv_1", i1=f"{BLOCK}/softmax")],
    "keys that are not transposed": [order("k", 0, 1, 2, 3)],
    "values before keys": [inputs("k", i0=f"{BLOCK}/kv_1"), inputs("mixed", i1=f"{BLOCK}/kv_0")],
    "keys and values along another axis": [axis("kv", 2)],
    "fewer heads of keys than of values": [constant("kv", 1, 2, 4)],
    "heads in another order": [order("mixed/tokens", 0, 1, 2, 3)],
    "rows of another shape": [constant("mixed/flat", 1, 48, 48)],
    "queries in another order": [order("q/heads", 0, 1, 2, 3)],
    "queries of a given number of streams": [constant("q/split", 1, 1, 48, 3, 16)],
    "queries of rank 5": [constant("q/split", 1, -1, 48, 3, 16, 1)],
    "queries of fewer tokens": [constant("q/split", 1, -1, 24, 3, 16)],
    "keys and values of fewer heads": [constant("kv/new/split", 1, -1, 48, 3, 16)],
    "keys and values of other features": [constant("kv/new/split", 1, -1, 48, 6, 8)],
    "queries of other rows": [inputs("q/sum", i0="block_00/norm1/quantized")],
    "queries of another scale": [inputs("q/sum", i2="block_00/norm1/quantized/scale")],
    "queries of another zero point": [inputs("q/sum", i4="block_00/norm1/quantized/zero")],
    "queries that are an output": [output(f"{BLOCK}/q/sum")],
    "queries that another node reads": [read_again(f"{BLOCK}/q/sum")],
    "probabilities that another node reads": [read_again(f"{BLOCK}/softmax")],
    "weights of rank 3": [reshape_weights],
    "rows with several zero points": [
        constant(name, 4, *[128] * 48, dtype=np.uint8) for name in ("q/sum", "kv/new/product")],
    "weights with a zero point": [constant("q/sum", 5, 1, dtype=np.int8)],
    "weights that are computed": [inputs("q/sum", i1="block_00/norm1/quantized")],
    "weights of another dtype": [retype],
    "rows of int8": [constant(name, 4, 0, dtype=np.int8) for name in ("q/sum", "kv/new/product")],
    "new tokens before cached ones": [inputs("all", i0=NEW, i1=OLD)],
    "tokens joined along features": [axis("all", 3)],
    "joined tokens that are an output": [output(f"{BLOCK}/all")],
    "a cache of two streams": [size(0, 2)],
    "a cache of fewer heads": [size(1, 3)],
    "cached tokens alone": [inputs("all", i1=OLD)],
    "two caches": [lambda graph: node(graph, "all").input.insert(0, "cache_in_00")],
    "new keys as an output without a cache": [inputs("kv", i0=NEW)],
    "the same, cut and joined again": [cut_new],
    "a new cache with a gap": [cut_and_join, output("gap")],
}


@pytest.mark.parametrize("changes", DIFFERENT.values(), ids=DIFFERENT)
def test_attention_that_differs_from_the_pattern_stays(changes: Sequence[Change], unfused: Path) -> None:
    model = onnx.load(unfused / "model.onnx")
    for change in changes:
        change(model.graph)
    fused, count = fuse_attention(model)
    assert count == DEPTH - 1
    assert [node.name for node in fused.graph.node if node.op_type == "Softmax"] == [f"{BLOCK}/softmax"]


def test_a_cache_that_is_cut_and_joined_again_is_fused(unfused: Path) -> None:
    model, bundle = onnx.load(unfused / "model.onnx"), open_bundle(unfused)
    cut_and_join(model.graph)
    fused, count = fuse_attention(model)
    assert count == DEPTH

    def scores(model: onnx.ModelProto) -> FloatArray:
        step = step_in_memory(model, bundle.contract, bundle.initial_cache())
        return golden_scores(proof_streams(step, bundle.contract), bundle.golden()[0])

    np.testing.assert_allclose(scores(fused), scores(model), rtol=0, atol=2e-5)
