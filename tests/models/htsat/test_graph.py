"""What is special about its graph; `test_stateless_graphs` tests what all families have in common."""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import numpy as np
import onnx
import pytest

from satexport.bundle.contract import USUAL_OPTIONS, Contract, GraphOptions, TensorSpec
from satexport.graph.operations import count_operations
from satexport.graph.simplify import graph_size
from satexport.models.checkpoint import load_checkpoint
from satexport.models.family import Checkpoint
from satexport.models.htsat.graph import build_graph
from satexport.models.htsat.variants import Variant, find_model
from satexport.models.htsat.weights import FOLDS, graph_weights
from satexport.pipeline.export import REWRITE_TOLERANCE, golden_audio
from tests.models.htsat.vectors import CLASSES, SECONDS, TINY, recorded, seeded_model, wave
from tests.models.stateless import contract_of, graph_of, rewrites_of, run, scores_of

pytestmark = pytest.mark.usefixtures("own_cache_folder", "one_thread")


@pytest.fixture(scope="module")
def tiny() -> Checkpoint[Variant]:
    return load_checkpoint("random", find_model(TINY)[1])


@pytest.mark.parametrize("delay", [2, 5, 10])
def test_every_length_gives_the_scores_of_pytorch(delay: int) -> None:
    checkpoint = load_checkpoint("random", find_model(TINY)[delay])
    for options in (USUAL_OPTIONS, GraphOptions(input="mel")):
        contract, audio = contract_of(checkpoint.variant, options), golden_audio(checkpoint.variant)[1:2]
        found = run(graph_of(checkpoint, options), contract, audio)
        assert np.abs(found - scores_of(checkpoint, audio)).max() < 1e-4


def of_the_vectors(variant: Variant) -> Contract:
    contract = contract_of(variant)
    return replace(contract, classes=CLASSES, scores=TensorSpec("scores", (1, CLASSES)))


@pytest.mark.parametrize("seconds", SECONDS)
def test_the_graph_of_the_vectors_gives_the_published_scores(seconds: int) -> None:
    checkpoint = seeded_model(TINY, seconds, CLASSES)
    contract = of_the_vectors(checkpoint.variant)
    weights = graph_weights(checkpoint.variant, checkpoint.state)
    for fold in FOLDS.values():
        weights = fold(weights)
    found = run(build_graph(checkpoint.variant, weights, contract), contract, wave(seconds))
    assert np.abs(found - recorded(seconds)["scores_pad"]).max() < 2e-5


@pytest.mark.long
@pytest.mark.parametrize("seconds", SECONDS)
def test_the_graph_of_the_published_size_gives_the_published_scores(seconds: int, shared: Path) -> None:
    checkpoint = seeded_model("htsat", seconds, 527)
    vectors = np.load(shared / "golden" / "baselines" / "htsat_full_seeded.npz")
    graph = graph_of(checkpoint)
    found = run(graph, contract_of(checkpoint.variant), wave(seconds))
    assert np.abs(found - 1 / (1 + np.exp(-vectors[f"htsat/logits_pad_{seconds}s"]))).max() < 4e-5
    # the count of the published model with attention, 12.0 GFLOP, whose head convolves all 32 steps
    saved = 2 * (32 - 1) * 527 * 6 * 768
    assert count_operations(graph)["model"] == pytest.approx(12.0e9 - saved, abs=0.1e9)


def test_each_fold_removes_work_and_keeps_the_scores(tiny: Checkpoint[Variant]) -> None:
    contract, audio = contract_of(tiny.variant), golden_audio(tiny.variant)[:1]
    graphs = rewrites_of(tiny)
    assert list(graphs)[1:] == list(FOLDS)
    for before, after in pairwise(graphs.values()):
        assert np.abs(run(before, contract, audio) - run(after, contract, audio)).max() <= REWRITE_TOLERANCE
        assert graph_size(after.model)[1] < graph_size(before.model)[1]
    first, *_, last = graphs.values()  # a bias appears where there was none, between two stages
    assert graph_size(last.model)[0] < graph_size(first.model)[0]


def test_every_norm_has_the_epsilon_1e_5(tiny: Checkpoint[Variant]) -> None:
    norms = [node for node in graph_of(tiny).model.graph.node if node.op_type == "LayerNormalization"]
    epsilons = [attribute.f for node in norms for attribute in node.attribute if attribute.name == "epsilon"]
    np.testing.assert_array_equal(epsilons, np.full(1 + 8 * 2 + 3 + 1, np.float32(1e-5)))
    plain = {"bn0.weight": np.ones(64, np.float32), "bn0.running_var": np.zeros(64, np.float32)}
    weights = graph_weights(tiny.variant, tiny.state | plain)
    np.testing.assert_allclose(weights["mel.scale"], np.full(64, 1e-5 ** -0.5))


def test_the_graph_has_static_shapes(tiny: Checkpoint[Variant]) -> None:
    inferred = onnx.shape_inference.infer_shapes(graph_of(tiny).model, data_prop=True).graph
    shapes = {value.name: [d.dim_value for d in value.type.tensor_type.shape.dim]
              for value in (*inferred.input, *inferred.output, *inferred.value_info)}
    assert (shapes["audio"], shapes["scores"]) == ([1, 32_000], [1, 527])
    assert shapes["mel/log"] == [1, 64, 102]      # frames with a sample of the audio, the others are constant
    assert shapes["block_00/softmax"] == [64, 1, 64, 64]
    assert shapes["block_07/softmax"] == [1, 4, 64, 64]


def test_every_product_but_the_means_over_time_has_a_role(tiny: Checkpoint[Variant]) -> None:
    graph = graph_of(tiny)
    assert [node.name for node in graph.model.graph.node
            if node.op_type in ("MatMul", "Conv") and node.name not in graph.roles] == ["pooled"]

    def block(layer: int) -> list[str]:
        return [f"{kind} {layer:02d}.{part}" for kind, part in (
            ("linear", "qkv"), ("attention", "logits"), ("attention", "mixed"), ("linear", "proj"),
            ("linear", "fc1"), ("linear", "fc2"))]

    roles = ["front_end", "patch"]
    for stage in range(4):
        roles += [*block(2 * stage), *block(2 * stage + 1), f"linear {stage}.reduction"]
    assert [str(role) for role in dict.fromkeys(graph.roles.values())] == [*roles[:-1], "head"]
