"""What is special about its graph; `test_stateless_graphs` tests what all families have in common."""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path

import numpy as np
import onnx
import pytest

from satexport.graph.operations import count_operations
from satexport.graph.simplify import graph_size
from satexport.models.ast.variants import Variant, find_model
from satexport.models.checkpoint import load_checkpoint
from satexport.models.family import Checkpoint
from satexport.pipeline.export import REWRITE_TOLERANCE, golden_audio
from tests.models.ast.vectors import (
    SECONDS,
    SIZE,
    TINY,
    full_size,
    recorded,
    save,
    transformers_names,
    wave,
)
from tests.models.stateless import contract_of, graph_of, rewrites_of, run, scores_of

pytestmark = pytest.mark.usefixtures("own_cache_folder", "one_thread")


@pytest.fixture(scope="module")
def tiny() -> Checkpoint[Variant]:
    return load_checkpoint("random", find_model(TINY)[1])


@pytest.mark.parametrize(("model", "delay"), [
    (TINY, 2), (TINY, 10), (f"ast-s12-{SIZE}", 1), (f"ast-s14-{SIZE}", 10), (f"ast-s16-{SIZE}", 5)])
def test_every_stride_and_length_gives_the_scores_of_pytorch(model: str, delay: int) -> None:
    checkpoint = load_checkpoint("random", find_model(model)[delay])
    audio = golden_audio(checkpoint.variant)[1:2]
    found = run(graph_of(checkpoint), contract_of(checkpoint.variant), audio)
    assert np.abs(found - scores_of(checkpoint, audio)).max() < 1e-4


@pytest.mark.parametrize("seconds", SECONDS)
def test_the_graph_of_the_vectors_gives_the_published_scores(seconds: int, tmp_path: Path) -> None:
    checkpoint = load_checkpoint(str(save(tmp_path, transformers_names())), find_model(TINY)[seconds])
    found = run(graph_of(checkpoint), contract_of(checkpoint.variant), wave(seconds))
    assert np.abs(found - recorded(seconds)["scores"]).max() < 1e-5


@pytest.mark.long
@pytest.mark.parametrize("seconds", SECONDS)
def test_the_graph_of_the_published_size_gives_the_published_scores(seconds: int, shared: Path) -> None:
    checkpoint = full_size(seconds)
    logits = np.load(shared / "golden" / "baselines" / "ast_full_seeded.npz")[f"logits_{seconds}s"]
    graph = graph_of(checkpoint)
    found = run(graph, contract_of(checkpoint.variant), wave(seconds))
    assert np.abs(found - 1 / (1 + np.exp(-logits))).max() < 2e-5
    # the paper's count with attention, 261.0 GFLOP, without what only the last block's patches need
    width, tokens = 768, 1214
    saved = 2 * (tokens - 2) * (10 * width**2 + 2 * tokens * width)
    assert count_operations(graph)["model"] == pytest.approx(261.0e9 - saved, abs=0.05e9)


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
    assert (audio, scores) == ((1, 16_000), (1, 527))
    inferred = onnx.shape_inference.infer_shapes(graph_of(tiny).model, data_prop=True).graph
    shapes = {value.name: [d.dim_value for d in value.type.tensor_type.shape.dim]
              for value in inferred.value_info}
    assert shapes["block_00/softmax"] == [1, 3, 1214, 1214]
    assert shapes["block_01/softmax"] == [1, 3, 2, 1214]  # only the two extra tokens are read afterwards
    assert shapes["block_01/out"] == [2, 48]


def test_every_norm_of_the_graph_has_the_epsilon_of_the_format(tiny: Checkpoint[Variant]) -> None:
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
