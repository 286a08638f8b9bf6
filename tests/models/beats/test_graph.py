"""What is special about its graph; `test_stateless_graphs` tests what all families have in common."""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import numpy as np
import onnx
import pytest

from satexport.graph.operations import count_operations
from satexport.graph.simplify import simplify
from satexport.models.beats.variants import Variant, find_model
from satexport.models.beats.weights import FOLDS
from satexport.models.checkpoint import load_checkpoint
from satexport.models.family import Checkpoint
from satexport.pipeline.export import REWRITE_TOLERANCE, golden_audio
from tests.models.beats.vectors import SECONDS, SIZE, TINY, recorded, seeded_model, wave
from tests.models.stateless import contract_of, graph_of, rewrites_of, run, scores_of

pytestmark = pytest.mark.usefixtures("own_cache_folder", "one_thread")


@pytest.fixture(scope="module")
def tiny() -> Checkpoint[Variant]:
    return load_checkpoint("random", find_model(TINY)[1])


@pytest.mark.parametrize("model", [
    f"beats-{SIZE}", "beats-embed48-48x3x1x32", f"beats-embed32-buckets32-distance40-plain-{SIZE}"])
def test_the_graph_of_every_size_gives_the_scores_of_pytorch(model: str) -> None:
    checkpoint = load_checkpoint("random", find_model(model)[2])
    audio = golden_audio(checkpoint.variant)[1:2]
    found = run(graph_of(checkpoint), contract_of(checkpoint.variant), audio)
    assert np.abs(found - scores_of(checkpoint, audio)).max() < 1e-4


@pytest.mark.parametrize("seconds", SECONDS)
def test_the_graph_of_the_vectors_gives_the_published_scores(seconds: int) -> None:
    checkpoint = seeded_model(TINY, seconds)
    contract, expected = contract_of(checkpoint.variant), recorded(seconds)["scores"]
    graphs = rewrites_of(checkpoint)
    for graph in (graphs["as published"], list(graphs.values())[-1]):
        assert np.abs(run(graph, contract, wave(seconds)) - expected).max() < 1e-5


@pytest.mark.long
@pytest.mark.parametrize("seconds", SECONDS)
def test_the_graph_of_the_published_size_gives_the_published_scores(seconds: int, shared: Path) -> None:
    checkpoint = seeded_model("beats", seconds)
    logits = np.load(shared / "golden" / "baselines" / "beats_full_seeded.npz")[f"beats/logits_{seconds}s"]
    graph = graph_of(checkpoint)
    found = run(graph, contract_of(checkpoint.variant), wave(seconds))
    assert np.abs(found - 1 / (1 + np.exp(-logits))).max() < 2e-5
    expected = {1: 8.8, 2: 17.8, 10: 99.0}[seconds]  # GFLOP, of the published model
    assert count_operations(graph)["model"] == pytest.approx(expected * 1e9, rel=0.01)


def test_each_fold_keeps_the_scores(tiny: Checkpoint[Variant]) -> None:
    contract, audio = contract_of(tiny.variant), golden_audio(tiny.variant)[:1]
    graphs = rewrites_of(tiny)
    assert list(graphs) == ["as published", *FOLDS]
    scores = [run(graph, contract, audio) for graph in graphs.values()]
    assert max(np.abs(before - after).max() for before, after in pairwise(scores)) <= REWRITE_TOLERANCE
    contents = {graph.model.SerializeToString() for graph in graphs.values()}
    assert len(contents) == len(graphs)  # each does something


def test_the_folds_leave_the_work_of_each_block_that_is_needed(tiny: Checkpoint[Variant]) -> None:
    names = [node.name for node in graph_of(tiny).model.graph.node]
    of_a_block = [name.removeprefix("block_01/") for name in names if name.startswith("block_01/")]
    for gone in ("mel/scaled", "block_01/q/scaled", "block_01/kv/new/sum", "block_01/attended/residual",
                 "block_01/gate/fours", "logits"):
        assert gone not in names
    assert len(of_a_block) == 38
    norms = {node.name: len(node.input) for node in graph_of(tiny).model.graph.node
             if node.op_type == "LayerNormalization"}
    assert norms["input/norm"] == 2  # its scale and shift are in the next layer


def test_the_bias_is_stored_by_distance_and_computed_once(tiny: Checkpoint[Variant]) -> None:
    graph = simplify(graph_of(replace(tiny, variant=find_model(TINY)[10]))).graph
    constants = {value.name: tuple(value.dims) for value in graph.model.graph.initializer}
    assert constants["bias.distances"] == (3, 1, 2 * 496)
    assert max(np.prod(shape) for shape in constants.values()) < 496 * 496
    readers = [node for node in graph.model.graph.node if "bias" in node.input]
    assert len(readers) == 2  # one in each block


def test_the_graph_has_static_shapes(tiny: Checkpoint[Variant]) -> None:
    graph = graph_of(tiny).model.graph
    (audio,), (scores,) = ([tuple(d.dim_value for d in value.type.tensor_type.shape.dim) for value in values]
                           for values in (graph.input, graph.output))
    assert (audio, scores) == ((1, 16_000), (1, 527))
    inferred = onnx.shape_inference.infer_shapes(graph_of(tiny).model, data_prop=True).graph
    shapes = {value.name: [d.dim_value for d in value.type.tensor_type.shape.dim]
              for value in inferred.value_info}
    assert shapes["block_01/softmax"] == [1, 3, 48, 48]
    assert shapes["bias"] == [1, 3, 48, 48]
    assert shapes["block_01/gate"] == [1, 3, 48, 1]


def test_every_norm_of_the_graph_has_the_published_epsilon(tiny: Checkpoint[Variant]) -> None:
    eps = [attribute.f for node in graph_of(tiny).model.graph.node if node.op_type == "LayerNormalization"
           for attribute in node.attribute if attribute.name == "epsilon"]
    np.testing.assert_allclose(eps, [1e-5] * 6, rtol=1e-6)


def test_every_product_has_a_role(tiny: Checkpoint[Variant]) -> None:
    graph = graph_of(tiny)
    without = [node.name for node in graph.model.graph.node
               if node.op_type in ("MatMul", "Conv") and node.name not in graph.roles]
    assert without == []
    assert [str(role) for role in dict.fromkeys(graph.roles.values())] == [
        "front_end", "patch", "linear input", "conv place",
        *(f"{kind} {layer:02d}.{part}" for layer in (0, 1) for kind, part in (
            ("linear", "q"), ("linear", "kv"), ("attention", "logits"), ("linear", "gate"),
            ("attention", "mixed"), ("linear", "proj"), ("linear", "fc1"), ("linear", "fc2"))),
        "head"]
