"""What is special about its graph; `test_stateless_graphs` and `test_patch_graphs` test the rest."""

from __future__ import annotations

import numpy as np
import pytest

from satexport.graph.operations import count_operations
from satexport.models.checkpoint import load_checkpoint
from satexport.models.passt.variants import find_model
from satexport.pipeline.export import golden_audio
from tests.models.passt.vectors import SECONDS, SIZE, TINY, TINY_16, recorded, seeded_model, wave
from tests.models.stateless import contract_of, graph_of, run, scores_of

pytestmark = pytest.mark.usefixtures("own_cache_folder", "one_thread")


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
