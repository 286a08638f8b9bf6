"""Random weights: a seed always gives the same ones, and their scores differ between sounds."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor

from satexport.audio.labels import audioset_labels
from satexport.models.checkpoint import load_checkpoint
from satexport.models.family import Checkpoint
from satexport.models.sat.network import Transformer
from satexport.models.sat.variants import Variant, find_model
from tests.models.checkpoints import SAT_T, WEIGHT

pytestmark = pytest.mark.usefixtures("own_cache_folder", "one_thread")


def run(loaded: Checkpoint[Variant]) -> tuple[Transformer, Tensor]:
    """Return the model of a checkpoint and four chunks of noise and tones, [4, 1, samples]."""
    model = Transformer(loaded.variant, loaded.classes).eval()
    model.load_state_dict({key: torch.from_numpy(value) for key, value in loaded.state.items()})
    samples = loaded.variant.hop_samples
    time = torch.arange(samples) / 16_000
    generator = torch.Generator().manual_seed(0)
    chunks = [0.3 * torch.sin(2 * torch.pi * 440 * time), torch.zeros(samples),
              0.1 * torch.randn(samples, generator=generator),
              0.3 * torch.sin(2 * torch.pi * (200 + 700 * time) * time)]
    return model, torch.stack(chunks)[:, None]


def test_a_seed_always_gives_the_same_weights_and_another_seed_other_weights() -> None:
    first, again = load_checkpoint("random", SAT_T), load_checkpoint("random", SAT_T)
    other = load_checkpoint("random", SAT_T, seed=1)
    assert first.sha256 == again.sha256 != other.sha256
    for key, value in first.state.items():
        np.testing.assert_array_equal(value, again.state[key])
    assert np.abs(first.state[WEIGHT] - other.state[WEIGHT]).max() > 0.01
    assert (first.source, first.name) == ("random", "random (seed 0)")
    assert other.name == "random (seed 1)"
    assert first.source == "random"
    assert first.labels == audioset_labels()


@pytest.mark.parametrize("variant", [
    find_model("sat-t")[2], find_model("sat-s")[1], find_model("vit-t")[1]],
    ids=lambda v: v.name)
@torch.inference_mode()
def test_scores_of_random_weights_are_moderate_and_differ_between_chunks(variant: Variant) -> None:
    model, chunks = run(load_checkpoint("random", variant))
    cache, rows = model.silence_cache(), []
    for chunk in chunks:
        row, cache = model(chunk, cache)
        rows.append(row[0])
    scores = torch.stack(rows)
    assert scores.min() > 0.005
    assert scores.max() < 0.995
    assert 0.05 < scores.std() < 0.2
    differences = (scores[:, None] - scores[None]).abs().mean(-1)
    assert differences[~torch.eye(4, dtype=torch.bool)].min() > 0.01


@torch.inference_mode()
def test_the_batch_norm_of_random_weights_normalizes_audio() -> None:
    model, chunks = run(load_checkpoint("random", SAT_T))
    quiet_room = model.front_end(0.03 * chunks[2])
    normed = model.init_bn(quiet_room[:, :, None])
    assert normed.mean().abs() < 1
    assert normed.abs().max() < 5


@torch.inference_mode()
def test_scores_of_random_weights_depend_on_the_cache() -> None:
    model, chunks = run(load_checkpoint("random", SAT_T))
    fresh, _ = model(chunks[0], model.silence_cache())
    _, cache = model(chunks[2], model.silence_cache())
    later, _ = model(chunks[0], cache)
    assert (fresh - later).abs().mean() > 0.02
