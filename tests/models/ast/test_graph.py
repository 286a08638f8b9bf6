"""What is special about its graph; `test_stateless_graphs` and `test_patch_graphs` test the rest."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from satexport.graph.operations import count_operations
from satexport.models.ast.variants import find_model
from satexport.models.checkpoint import load_checkpoint
from satexport.pipeline.export import golden_audio
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
from tests.models.stateless import contract_of, graph_of, run, scores_of

pytestmark = pytest.mark.usefixtures("own_cache_folder", "one_thread")


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
