"""Random weights: a seed always gives the same ones, and their scores differ between sounds."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from satexport.audio.synthetic import synthetic_stream
from satexport.models.checkpoint import load_checkpoint
from satexport.models.efficientat.reference import PyTorchStep
from satexport.models.efficientat.variants import find_model

pytestmark = pytest.mark.usefixtures("own_cache_folder", "one_thread")

SOUND = synthetic_stream(10, "evaluate", rate=32_000).reshape(10, -1)  # others than those of the statistics


def test_a_seed_always_gives_the_same_weights_and_another_seed_other_weights() -> None:
    variant = find_model("mn01")[1]
    first, again = load_checkpoint("random", variant), load_checkpoint("random", variant)
    other = load_checkpoint("random", variant, seed=1)
    assert first.sha256 == again.sha256 != other.sha256
    assert load_checkpoint("random", find_model("mn01")[10]).sha256 == first.sha256


def test_statistics_have_few_bits_so_that_no_platform_rounds_them_differently() -> None:
    state = load_checkpoint("random", find_model("mn01")[1]).state
    for key, value in state.items():
        if "running" in key:
            fraction, _ = np.frexp(value)
            np.testing.assert_array_equal(64 * fraction, np.round(64 * fraction))


@pytest.mark.parametrize("model", ["mn01", "mn04", "mn10", "mn10-fc", "mn10-mels-40"])
def test_scores_of_random_weights_are_moderate_and_differ_between_chunks(model: str) -> None:
    scores = PyTorchStep(load_checkpoint("random", find_model(model)[1]))(SOUND, None)[0].scores
    assert np.quantile(scores, 0.001) > 1e-4
    assert np.quantile(scores, 0.999) < 1 - 1e-4
    assert np.ptp(scores, axis=0).max() > 0.05


@torch.inference_mode()
def test_activations_neither_explode_nor_vanish() -> None:
    network = PyTorchStep(load_checkpoint("random", find_model("mn04")[1])).model
    x = network.normalised(torch.from_numpy(SOUND))
    for layer in network.features:
        x = layer(x)
        assert 0.1 < x.square().mean().sqrt() < 10
