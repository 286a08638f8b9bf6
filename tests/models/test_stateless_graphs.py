"""The graphs of models without a cache, of every such family: their scores equal PyTorch's, in every form."""

from __future__ import annotations

from functools import cache
from typing import Any

import numpy as np
import pytest

from satexport.audio.synthetic import synthetic_stream
from satexport.backends.onnxruntime.step import OnnxRuntimeStep
from satexport.bundle.contract import ANY, USUAL_OPTIONS, GraphOptions
from satexport.models.checkpoint import load_checkpoint
from satexport.models.families import FAMILIES, find_variant
from satexport.models.family import Checkpoint
from satexport.pipeline.export import golden_audio
from satexport.tagging.stream import StreamBatch
from tests.models.sat.graphs import ALLOWED
from tests.models.stateless import contract_of, graph_of, run, scores_of

TINY = {  # model -> further operators of its graph
    "ast-48x3x2x96": set(), "passt-s16-48x3x2x192": set(), "beats-embed32-48x3x2x96": {"Expand"},
    "htsat-8x1-2-2-4x2-2-2-2": {"Gather"}}
models = pytest.mark.parametrize("model", TINY)
pytestmark = pytest.mark.usefixtures("own_cache_folder", "one_thread")


@cache
def tiny(model: str) -> Checkpoint[Any]:
    return load_checkpoint("random", find_variant(model, 1))


def test_every_family_without_a_cache_is_tried_here_or_has_its_own_tests() -> None:
    assert {find_variant(model, 1).family for model in TINY} == set(FAMILIES) - {"sat", "efficientat"}


@pytest.mark.parametrize("options", [
    USUAL_OPTIONS, GraphOptions(streams=3), GraphOptions(streams=ANY, input="mel")],
    ids=lambda options: options.suffix)
@models
def test_the_graph_gives_the_scores_of_pytorch_under_all_options(model: str, options: GraphOptions) -> None:
    checkpoint = tiny(model)
    audio = golden_audio(checkpoint.variant)[:1 if options.streams == 1 else 3]
    expected = scores_of(checkpoint, audio)
    found = run(graph_of(checkpoint, options), contract_of(checkpoint.variant, options), audio)
    assert np.abs(found - expected).max() < 1e-4
    assert len(audio) == 1 or np.ptp(expected, axis=0).max() > 0.01  # chunks differ


@pytest.mark.parametrize("opset", [17, 23])
@models
def test_every_opset_gives_the_same_scores(model: str, opset: int) -> None:
    checkpoint = tiny(model)
    audio, graph = golden_audio(checkpoint.variant)[:1], graph_of(checkpoint, opset=opset)
    assert [(o.domain, o.version) for o in graph.model.opset_import] == [("", opset)]
    found = run(graph, contract_of(checkpoint.variant, opset=opset), audio)
    assert np.abs(found - scores_of(checkpoint, audio)).max() < 1e-4


@models
def test_the_graph_has_standard_operators_and_the_same_weights_give_the_same_bytes(model: str) -> None:
    first, second = (graph_of(tiny(model)).model for _ in range(2))
    assert first.SerializeToString() == second.SerializeToString()
    assert {node.op_type for node in first.graph.node} <= ALLOWED | TINY[model]
    assert {opset.domain for opset in first.opset_import} == {""}


@models
def test_a_window_scores_the_last_seconds_with_silent_samples_before_the_stream(model: str) -> None:
    checkpoint = load_checkpoint("random", find_variant(model, 5, 10))
    variant = checkpoint.variant
    contract = contract_of(variant)
    audio = synthetic_stream(10, "evaluate", rate=variant.sample_rate).reshape(2, -1)
    assert (contract.variant, contract.memory_steps) == (f"{model}-5s-window-10s", 1)
    step = OnnxRuntimeStep(graph_of(checkpoint).model.SerializeToString(), contract, [])
    stream = StreamBatch(step, contract, 1)
    found = np.concatenate([stream.feed(chunk[None])[:, 0] for chunk in audio])
    expected = scores_of(checkpoint, np.stack((np.concatenate((0 * audio[0], audio[0])), audio.reshape(-1))))
    np.testing.assert_allclose(found, expected, atol=1e-4)
    assert np.abs(expected[0] - expected[1]).max() > 0.01
