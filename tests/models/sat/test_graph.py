"""The ONNX graph: its scores equal PyTorch's, its state is explicit, its operators are standard."""

from __future__ import annotations

import numpy as np
import onnx
import pytest
import torch

from satexport.bundle.contract import ANY, GraphOptions
from satexport.graph.edit import clone
from satexport.graph.roles import Graph
from satexport.graph.simplify import Simplified, graph_size, simplify
from satexport.models.checkpoint import load_checkpoint
from satexport.models.sat.folds import FOLDS
from satexport.models.sat.graph import OPSETS
from satexport.models.sat.reference import PyTorchStep
from satexport.models.sat.variants import LOG_MEL, find_model
from satexport.models.sat.weights import graph_weights
from satexport.parity.golden import golden_scores
from satexport.pipeline.export import REWRITE_TOLERANCE, golden_audio
from tests.models.sat.graphs import (
    ALLOWED,
    DISTINCT,
    CheckpointWeights,
    contract_of,
    fold_all,
    graph_of,
    hidden_silence,
    pytorch_scores,
)
from tests.tiny import DEPTH, SAT, TINY


@pytest.fixture(scope="module")
def sat_t() -> CheckpointWeights:
    """A small sat-t."""
    checkpoint = load_checkpoint("random", find_model(SAT)[2])
    return checkpoint, graph_weights(checkpoint.variant, checkpoint.state)


@pytest.mark.parametrize(("model", "delay"), [
    *((f"{model}-{TINY}", delay) for model, delay in DISTINCT),
    *(pytest.param(*variant, marks=pytest.mark.long) for variant in DISTINCT)])
def test_every_variant_equals_pytorch_over_more_chunks_than_it_remembers(model: str, delay: int) -> None:
    checkpoint = load_checkpoint("random", find_model(model)[delay])
    audio = golden_audio(checkpoint.variant)
    assert len(audio) > checkpoint.variant.memory_steps
    weights = fold_all(graph_weights(checkpoint.variant, checkpoint.state))
    expected = pytorch_scores(checkpoint, audio)
    assert np.abs(graph_of(checkpoint, weights).scores(audio) - expected).max() < 1e-4
    assert np.ptp(expected, axis=0).max() > 0.01  # the scores change from chunk to chunk


@pytest.mark.parametrize("name", FOLDS)
def test_each_fold_removes_work_and_keeps_the_scores(sat_t: CheckpointWeights, name: str) -> None:
    checkpoint, weights = sat_t
    audio = golden_audio(checkpoint.variant)[:4]
    order = list(FOLDS)
    for earlier in order[:order.index(name)]:
        weights = FOLDS[earlier](weights)
    before, after = (graph_of(checkpoint, w) for w in (weights, FOLDS[name](weights)))
    assert np.abs(before.scores(audio) - after.scores(audio)).max() <= REWRITE_TOLERANCE
    nodes, size = graph_size(before.graph.model)
    assert graph_size(after.graph.model)[0] <= nodes
    assert graph_size(after.graph.model)[1] < size


@pytest.mark.parametrize(("model", "delay", "memory"), [
    ("sat-t", 2, DEPTH), ("sat-t", 1, DEPTH), ("sat-s", 1, 2 * DEPTH)])
def test_the_initial_cache_is_forgotten_after_exactly_memory_steps_chunks(
        model: str, delay: int, memory: int) -> None:
    checkpoint = load_checkpoint("random", find_model(f"{model}-{TINY}")[delay])
    variant = checkpoint.variant
    graph = graph_of(checkpoint, fold_all(graph_weights(variant, checkpoint.state)))
    audio = golden_audio(variant)
    noise = np.random.default_rng(0)
    other = [noise.standard_normal(c.shape).astype(np.float32) for c in graph.cache]
    differ = np.abs(graph.scores(audio) - graph._replace(cache=other).scores(audio)).max(1) > 0
    assert variant.memory_steps == memory
    assert differ[:memory].all()
    assert not differ[memory:].any()


def test_the_initial_cache_is_that_of_silence_and_not_zeros(sat_t: CheckpointWeights) -> None:
    checkpoint, weights = sat_t
    graph = graph_of(checkpoint, fold_all(weights))
    audio = golden_audio(checkpoint.variant)[:1]
    expected = pytorch_scores(checkpoint, audio)
    zeros = graph._replace(cache=[np.zeros_like(c) for c in graph.cache])
    assert np.abs(graph.scores(audio) - expected).max() < 1e-4
    assert np.abs(zeros.scores(audio) - expected).max() > 1e-3


@pytest.mark.parametrize("opset", OPSETS)
def test_every_opset_gives_the_same_scores(sat_t: CheckpointWeights, opset: int) -> None:
    checkpoint, weights = sat_t
    audio = golden_audio(checkpoint.variant)[:3]
    graph = graph_of(checkpoint, fold_all(weights), opset)
    assert [(o.domain, o.version) for o in graph.graph.model.opset_import] == [("", opset)]
    assert np.abs(graph.scores(audio) - pytorch_scores(checkpoint, audio)).max() < 1e-4


@pytest.mark.parametrize(("model", "delay"), [("sat-t", 2), ("sat-s", 1), ("vit-s", 1)])
def test_the_graph_has_standard_operators_static_shapes_and_caches_in_order(model: str, delay: int) -> None:
    checkpoint = load_checkpoint("random", find_model(f"{model}-{TINY}")[delay])
    variant = checkpoint.variant
    graph = graph_of(checkpoint, fold_all(graph_weights(variant, checkpoint.state))).graph.model.graph
    assert {node.op_type for node in graph.node} <= ALLOWED
    shapes = [{v.name: tuple(d.dim_value for d in v.type.tensor_type.shape.dim) for v in values}
              for values in (graph.input, graph.output)]
    contract = contract_of(variant)
    assert list(shapes[0].items()) == [(s.name, s.shape) for s in (contract.input, *contract.cache_in)]
    assert list(shapes[1].items()) == [(s.name, s.shape) for s in (*contract.outputs, *contract.cache_out)]
    if model == "sat-s":  # tokens stay cached for several steps, so layer 0 caches hidden tokens
        assert shapes[0]["cache_in_00"] == (1, 48, variant.width)
        assert shapes[0]["cache_in_01"] == (1, 2 * variant.heads, 48, variant.head_width)


@pytest.mark.parametrize(("model", "delay"), [("sat-t", 2), ("sat-s", 1), ("sat-s", 2), ("vit-s", 1)])
@pytest.mark.parametrize("options", [
    GraphOptions(cache="hidden"), GraphOptions(input="mel"), GraphOptions(streams=3),
    GraphOptions(streams=ANY), GraphOptions(cache="hidden", input="mel", streams=3)],
    ids=lambda options: options.suffix)
def test_the_graph_gives_the_scores_of_the_published_model_under_all_options(
        model: str, delay: int, options: GraphOptions) -> None:
    checkpoint = load_checkpoint("random", find_model(f"{model}-{TINY}")[delay])
    if options.cache == "hidden" and not checkpoint.variant.has_cache:
        return
    audio = golden_audio(checkpoint.variant)[:5]
    weights = fold_all(graph_weights(checkpoint.variant, checkpoint.state))
    graph = graph_of(checkpoint, weights, options=options)
    streams = graph.streams(1 if options.streams == 1 else 3)
    # each stream begins one chunk later than the one before and must not depend on the others
    scores = golden_scores(streams, audio)
    assert len(scores) == len(streams)
    assert np.abs(scores - pytorch_scores(checkpoint, audio)).max() < 1e-4


def test_a_hidden_cache_is_half_as_large(sat_t: CheckpointWeights) -> None:
    checkpoint, weights = sat_t
    keys_values, hidden = (
        graph_of(checkpoint, weights, options=GraphOptions(cache=cache)).cache for cache in ("kv", "hidden"))
    assert 2 * sum(array.size for array in hidden) == sum(array.size for array in keys_values)
    published = hidden_silence(checkpoint)
    assert published is not None
    np.testing.assert_array_equal(np.concatenate(hidden), published)


def test_each_stream_is_clamped_relative_to_its_own_loudest_sound(sat_t: CheckpointWeights) -> None:
    checkpoint, weights = sat_t
    streams = graph_of(checkpoint, fold_all(weights), options=GraphOptions(streams=2)).streams(2)
    quiet = np.full(checkpoint.variant.hop_samples, 1e-7, np.float32)
    quiet[1::2] *= -1
    loud = golden_audio(checkpoint.variant)[1] * np.float32(4)
    assert np.abs(loud).max() > 1
    scores = streams.feed(np.stack((quiet, loud)))[0]
    for row, chunk in zip(scores, (quiet, loud), strict=True):
        assert np.abs(row - pytorch_scores(checkpoint, chunk[None])).max() < 1e-4


def test_numpy_and_pytorch_compute_the_same_log_mel(sat_t: CheckpointWeights) -> None:
    checkpoint, _ = sat_t
    audio = golden_audio(checkpoint.variant)[:4]
    with torch.inference_mode():
        expected = PyTorchStep(checkpoint).model.front_end(torch.from_numpy(audio)).numpy()
    mel = LOG_MEL.compute(audio, checkpoint.variant.used_frames)
    assert mel.shape == (4, 64, 192)
    assert np.abs(mel - expected[..., :192]).max() < 0.05  # dB, at the floor of float32
    assert np.abs(mel - expected[..., :192]).mean() < 1e-4


def test_quiet_sound_with_a_loud_click_is_clamped_as_in_pytorch(sat_t: CheckpointWeights) -> None:
    checkpoint, weights = sat_t
    chunk = np.full(checkpoint.variant.hop_samples, 1e-7, np.float32)
    chunk[1::2] *= -1
    chunk[16_000:16_100] = 1.0
    graph = graph_of(checkpoint, fold_all(weights))
    expected = pytorch_scores(checkpoint, chunk[None])
    assert np.abs(graph.scores(chunk[None]) - expected).max() < 1e-4
    unclamped = clone(graph.graph.model)
    top = next(i for i in unclamped.graph.initializer if i.name == "mel.top")
    top.CopyFrom(onnx.numpy_helper.from_array(np.float32(1e6), "mel.top"))
    without = graph._replace(graph=Graph(unclamped, {})).scores(chunk[None])
    assert np.abs(without - expected).max() > 1e-4


def test_the_graph_of_onnxsim_is_kept_only_if_it_is_smaller(
        sat_t: CheckpointWeights, monkeypatch: pytest.MonkeyPatch) -> None:
    checkpoint, weights = sat_t
    graph = graph_of(checkpoint, fold_all(weights)).graph
    simpler = simplify(graph)
    assert not simpler.why_not
    assert graph_size(simpler.graph.model)[0] < graph_size(graph.model)[0]
    assert simpler.graph.model.metadata_props == graph.model.metadata_props
    monkeypatch.setattr("onnxsim.simplify", lambda m, **options: (graph.model, True))
    nodes, size = graph_size(graph.model)
    assert simplify(graph) == Simplified(graph, f"not smaller: {nodes} nodes, {size / 1e6:.1f} MB")


def test_the_same_weights_give_the_same_bytes(sat_t: CheckpointWeights) -> None:
    checkpoint, weights = sat_t
    first, second = (graph_of(checkpoint, fold_all(weights)).graph.model for _ in range(2))
    assert first.SerializeToString() == second.SerializeToString()
