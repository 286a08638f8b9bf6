"""The PyTorch models against outputs of the published implementation (tests/data)."""

from __future__ import annotations

from collections.abc import Mapping
from functools import lru_cache
from typing import Any

import numpy as np
import pytest
import torch

from satexport.models.checkpoint import load_checkpoint
from satexport.models.sat.network import Transformer
from satexport.models.sat.reference import PyTorchStep
from satexport.models.sat.variants import LOG_MEL, VARIANTS, Variant, find_model
from tests import ROOT
from tests.data import seeded
from tests.tiny import TINY

GOLDEN: Mapping[str, Any] = np.load(ROOT / "tests" / "data" / "published.npz")
SAT = {f"SAT_{size.upper()}_{delay}s": VARIANTS[f"sat-{size}", delay] for size in "tsb" for delay in (1, 2)}
VIT = {"audiotransformer_tiny": "vit-t", "audiotransformer_small": "vit-s", "audiotransformer_base": "vit-b"}
BASE = {"SAT_B_2s", "SAT_B_1s", "audiotransformer_base"}  # the largest, twice as long as all others together
SCORES, CACHE, DECIBELS = 5e-5, 1e-3, 2e-3  # tolerances; the vectors were computed in float64


def sizes(*names: str) -> list[Any]:
    """Return names as parameters; the largest models run only in `make test-long`."""
    return [pytest.param(name, marks=pytest.mark.long) if name in BASE else name for name in names]


@lru_cache(maxsize=2)
def published(variant: Variant) -> Transformer:
    """Return the model with the weights from which the vectors were computed."""
    model = Transformer(variant).eval().requires_grad_(False)
    shapes = {key: tuple(value.shape) for key, value in model.state_dict().items()}
    state = {key: torch.from_numpy(value) for key, value in seeded.state_dict(shapes).items()}
    missing, surplus = model.load_state_dict(state, strict=False)
    assert not surplus
    assert all(key.startswith("front_end.") for key in missing if "num_batches" not in key)
    return model


def wave(seconds: int) -> torch.Tensor:
    return torch.from_numpy(seeded.waveform(seconds))[None]


def gap(name: str, values: torch.Tensor) -> float:
    """Return the largest difference from a vector of the published implementation."""
    return float(np.abs(GOLDEN[name] - values.numpy()).max())


@pytest.mark.parametrize("name", sizes(*SAT))
def test_a_stream_from_silence_scores_as_published(name: str) -> None:
    model = published(SAT[name])
    cache = silence = model.silence_cache()
    assert silence is not None
    scores = []
    for chunk in torch.split(wave(4 * model.variant.delay), model.variant.hop_samples, dim=1):
        score, cache = model(chunk, cache)
        scores.append(score[0])
    assert gap(f"{name}/stream", torch.stack(scores)) < SCORES
    if f"{name}/silence_cache_layers_0_5_11" in GOLDEN:
        assert gap(f"{name}/silence_cache_layers_0_5_11", silence[[0, 5, 11], 0]) < CACHE
        assert cache is not None
        assert gap(f"{name}/final_cache_layers_0_5_11", cache[[0, 5, 11], 0]) < CACHE


@pytest.mark.parametrize("name", sizes(*SAT, *VIT))
def test_a_clip_scores_as_in_the_paper(name: str) -> None:
    model = published(SAT[name] if name in SAT else VARIANTS[VIT[name], 10])
    for seconds in (5, 10):
        assert gap(f"{name}/clip_{seconds}s", model.clip_scores(wave(seconds))[0]) < SCORES


@pytest.mark.parametrize("name", sizes(*VIT))
@pytest.mark.parametrize("delay", [1, 2])
def test_a_model_without_a_cache_scores_each_chunk_independently(name: str, delay: int) -> None:
    model = Transformer(VARIANTS[VIT[name], delay]).eval().requires_grad_(False)
    model.load_state_dict(published(VARIANTS[VIT[name], 10]).state_dict())
    scores, cache = model(wave(4 * delay).reshape(4, -1), None)
    assert cache is None
    assert gap(f"{name}/chunks_{delay}s", scores) < SCORES


def test_the_log_mel_is_the_published_one() -> None:
    mel = published(SAT["SAT_T_2s"]).front_end(wave(2))[0]
    assert gap("logmel_db_2s", mel) < DECIBELS
    assert np.abs(LOG_MEL.filters() - GOLDEN["mel_filterbank"]).max() < 1e-5


def test_streams_in_one_batch_are_independent() -> None:
    model = published(SAT["SAT_S_1s"])
    silence = model.silence_cache()
    assert silence is not None
    chunks = wave(2).reshape(2, -1) * torch.tensor([[1.0], [0.001]])  # the clamp is per stream, too
    together, cache = model(chunks, silence.expand(-1, 2, -1, -1))
    single, single_cache = model(chunks[1:], silence)
    torch.testing.assert_close(together[1:], single, atol=1e-5, rtol=0)
    torch.testing.assert_close(cache[:, 1:], single_cache, atol=1e-4, rtol=0)


@pytest.mark.parametrize(("model", "tokens"), [
    (f"sat-t-{TINY}", 48), (f"vit-t-{TINY}", 48), (f"ced-mini-{TINY}", 48), (f"sat-s-{TINY}", 49),
    (f"vit-s-{TINY}", 49)])
def test_an_embedding_is_of_the_new_tokens_after_the_last_norm(model: str, tokens: int) -> None:
    """The second chunk of two streams. 2 s have 12 columns of 4 patches; with 49 the first is the class
    token."""
    checkpoint = load_checkpoint("random", find_model(model)[2])
    step, normed = PyTorchStep(checkpoint, "mean"), list[Any]()
    cache = step.initial_cache(2)
    step.model.norm.register_forward_hook(lambda module, args, output: normed.append(output.numpy()))
    for chunk in seeded.waveform(8).reshape(2, 2, 32_000).swapaxes(0, 1):
        outputs, cache = step(chunk, cache)
    assert normed[1].shape[:2] == (2, tokens)
    expected = normed[1][:, 0] if tokens == 49 else normed[1].mean(1)
    assert outputs.embedding is not None
    np.testing.assert_allclose(outputs.embedding, expected, rtol=0, atol=1e-6)
