"""What is special about its graph; `test_stateless_graphs` tests what all families have in common."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import onnx
import pytest

from satexport.graph.operations import count_operations
from satexport.graph.simplify import graph_size
from satexport.models.checkpoint import load_checkpoint
from satexport.models.family import Checkpoint
from satexport.models.passt.variants import Variant, find_model
from satexport.pipeline.export import REWRITE_TOLERANCE, golden_audio
from tests.models.passt.vectors import SECONDS, SIZE, TINY, TINY_16, recorded, seeded_model, wave
from tests.models.stateless import contract_of, graph_of, rewrites_of, run, scores_of

pytestmark = pytest.mark.usefixtures("own_cache_folder", "one_thread")


@pytest.fixture(scope="module")
def tiny() -> Checkpoint[Variant]:
    return load_checkpoint("random", find_model(TINY)[1])


@pytest.mark.parametrize(("model", "delay"), [
    (f"passt-s12-{SIZE}", 1), (f"passt-s14-{SIZE}", 5), (f"passt-s10-20sec-{SIZE}", 20),
    (f"passt-s10-stfthop160-{SIZE}", 2), (f"passt-s10-stfthop100-{SIZE}", 2)])
def test_every_stride_and_front_end_gives_the_scores_of_pytorch(model: str, delay: int) -> None:
    checkpoint = load_checkpoint("random", find_model(model)[delay])
    audio = golden_audio(checkpoint.variant)[1:2]
    found = run(graph_of(checkpoint), contract_of(checkpoint.variant), audio)
    assert np.abs(found - scores_of(checkpoint, audio)).max() < 1e-4


@pytest.mark.parametrize("seconds", SECONDS)
@pytest.mark.parametrize("model", [TINY, TINY_16])
def test_the_graph_of_the_vectors_gives_the_published_scores(model: str, seconds: int) -> None:
    checkpoint = seeded_model(model, seconds)
    found = run(graph_of(checkpoint), contract_of(checkpoint.variant), wave(seconds))
    assert np.abs(found - 1 / (1 + np.exp(-recorded(model, seconds)["logits"]))).max() < 1e-5


@pytest.mark.long
@pytest.mark.parametrize("seconds", SECONDS)
@pytest.mark.parametrize(("model", "gflops"), [("passt-s10", 254.8), ("passt-s16", 93.9)])
def test_the_graph_of_the_published_size_gives_the_published_scores(
        model: str, gflops: float, seconds: int) -> None:
    checkpoint = seeded_model(model, seconds)
    graph = graph_of(checkpoint)
    found = run(graph, contract_of(checkpoint.variant), wave(seconds))
    assert np.abs(found - 1 / (1 + np.exp(-recorded(model, seconds)["logits"]))).max() < 2e-5
    if seconds == 10:  # the published count with attention, without what only the last block's patches need
        width, tokens = 768, checkpoint.variant.tokens
        saved = 2 * (tokens - 2) * (10 * width**2 + 2 * tokens * width)
        assert count_operations(graph)["model"] == pytest.approx(gflops * 1e9 - saved, abs=0.05e9)


def test_each_fold_removes_work_and_keeps_the_scores(tiny: Checkpoint[Variant]) -> None:
    contract, audio = contract_of(tiny.variant), golden_audio(tiny.variant)[:1]
    graphs = list(rewrites_of(tiny).values())
    scores = [run(graph, contract, audio) for graph in graphs]
    sizes = [graph_size(graph.model) for graph in graphs]
    assert len(graphs) == 5
    assert max(np.abs(before - after).max() for before, after in pairwise(scores)) <= REWRITE_TOLERANCE
    for before, after in pairwise(sizes):
        assert after[0] <= before[0]
        assert after[1] < before[1]


def test_the_graph_has_static_shapes(tiny: Checkpoint[Variant]) -> None:
    graph = graph_of(tiny).model.graph
    (audio,), (scores,) = ([tuple(d.dim_value for d in value.type.tensor_type.shape.dim) for value in values]
                           for values in (graph.input, graph.output))
    assert (audio, scores) == ((1, 32_000), (1, 527))
    inferred = onnx.shape_inference.infer_shapes(graph_of(tiny).model, data_prop=True).graph
    shapes = {value.name: [d.dim_value for d in value.type.tensor_type.shape.dim]
              for value in inferred.value_info}
    assert shapes["block_00/softmax"] == [1, 3, 110, 110]
    assert shapes["block_01/softmax"] == [1, 3, 2, 110]  # only the two extra tokens are read afterwards
    assert shapes["block_01/out"] == [2, 48]


def test_the_graph_has_the_epsilons_of_the_published_norms(tiny: Checkpoint[Variant]) -> None:
    eps = [attribute.f for node in graph_of(tiny).model.graph.node if node.op_type == "LayerNormalization"
           for attribute in node.attribute if attribute.name == "epsilon"]
    np.testing.assert_allclose(eps, [1e-6] * 5 + [1e-5], rtol=1e-6)


def test_every_product_has_a_role(tiny: Checkpoint[Variant]) -> None:
    graph = graph_of(tiny)
    without = [node.name for node in graph.model.graph.node
               if node.op_type in ("MatMul", "Conv") and node.name not in graph.roles]
    assert without == []
    assert [str(role) for role in dict.fromkeys(graph.roles.values())] == [
        "front_end", "patch",
        *(f"{kind} {layer:02d}.{part}" for layer in (0, 1) for kind, part in (
            ("linear", "q"), ("linear", "kv"), ("attention", "logits"), ("attention", "mixed"),
            ("linear", "proj"), ("linear", "fc1"), ("linear", "fc2"))),
        "head"]
