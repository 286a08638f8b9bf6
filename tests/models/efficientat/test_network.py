"""The PyTorch models against outputs of the published implementation."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from satexport.models.efficientat.network import MobileNet
from satexport.models.efficientat.variants import DELAYS, VARIANTS, find_model
from tests.models.efficientat.vectors import KINDS, VECTORS, outputs, published, seeded_state, trained, wave

RELATIVE = 8e-6   # of the largest value of a seeded model's output: the vectors and the sums of this CPU are
                  # each within 4e-6 of the model in float64 (mn10-hop-20: 2.6e-6; with AVX2 only, 3.8e-6)
FEATURES = 5e-5   # of a log-mel
WIDE = ("mn20", "mn30", "mn40")
NAMES = ["mn01", "mn02", "mn04", "mn05", "mn10", *WIDE, "mn10-fc", "mn10-fc-s2221", "mn10-fc-s2211",
         *(f"mn10-hop-{ms}" for ms in (5, 15, 20, 25)), *(f"mn10-mels-{bands}" for bands in (40, 64, 256))]
QUICK = "mn01", "mn04", "mn10", "mn10-fc-s2211", "mn10-hop-15", "mn10-mels-256"
models = pytest.mark.parametrize("model", [
    name if name in QUICK else pytest.param(name, marks=pytest.mark.long) for name in NAMES])


def recorded(model: str, seconds: int) -> dict[str, Any]:
    """Return the vectors of a model by name."""
    start, end = f"{model.replace('-', '_')}/", f"_{seconds}s"
    return {key[len(start):-len(end)]: VECTORS[key] for key in VECTORS
            if key.startswith(start) and key.endswith(end)}


def check(model: str, seconds: int) -> set[str]:
    """Compare a model with its vectors; returns their names."""
    found, expected = outputs(published(model), wave(seconds)), recorded(model, seconds)
    for name, value in expected.items():
        limit = FEATURES if name == "features_mean" else RELATIVE * np.abs(value).max()
        # of an embedding wider than 1000, the first 64 numbers were recorded
        np.testing.assert_allclose(found[name][:, :value.shape[1]], value, rtol=0, atol=limit)
    return set(expected)


@models
def test_every_model_gives_the_published_outputs(model: str) -> None:
    if model in WIDE or len(model) == 4:
        assert check(model, 2) == {"logits", "embedding", "mb_l", "m_se"}
    else:
        assert check(model, 2) == {"logits", "embedding" if "fc" in model else "features_mean"}


@pytest.mark.parametrize("seconds", [1, 10])
def test_mn10_gives_the_published_outputs_for_any_length(seconds: int) -> None:
    assert check("mn10", seconds) == {"logits", "embedding", "mb_l", "m_se"}


@pytest.mark.parametrize("seconds", [1, 2, 10])
def test_the_trained_mn04_gives_the_published_outputs(seconds: int, shared: Path) -> None:
    expected = np.load(shared / "golden" / "baselines" / f"mn04_real_{seconds}s.npz")
    found = outputs(trained(shared), wave(seconds))
    frames = expected["features"].shape[2]
    np.testing.assert_allclose(found["features"][..., :frames], expected["features"], rtol=0, atol=FEATURES)
    np.testing.assert_allclose(found["features_mean"], expected["features_mean"], rtol=0, atol=FEATURES)
    for name in ("logits", *KINDS):
        np.testing.assert_allclose(found[name], expected[name], rtol=0, atol=2e-5)
    scores = torch.from_numpy(found["logits"]).sigmoid()
    np.testing.assert_allclose(scores, expected["scores"], rtol=0, atol=1e-5)


@pytest.mark.parametrize(("model", "parameters", "embedding", "hidden"), [
    ("mn01", 123_783, 96, 128), ("mn02", 324_695, 192, 256), ("mn04", 983_599, 384, 512),
    ("mn05", 1_431_239, 480, 640), ("mn10", 4_876_831, 960, 1280), ("mn20", 17_909_287, 1920, 2560),
    ("mn30", 39_086_367, 2880, 3840), ("mn40", 68_427_303, 3840, 5120)])
def test_the_sizes_are_those_of_the_paper(model: str, parameters: int, embedding: int, hidden: int) -> None:
    variant = find_model(model)[1]
    assert (variant.last_channels, variant.hidden) == (embedding, hidden)
    with torch.device("meta"):
        network = MobileNet(variant)
    assert sum(parameter.numel() for parameter in network.parameters()) == parameters


def test_the_state_dict_has_the_published_number_of_entries() -> None:
    counts = {model: len(seeded_state(find_model(model)[1])) for model in ("mn01", "mn02")}
    norms = {"mn01": 32 + 14 - 3, "mn02": 46}
    assert {model: count + norms[model] for model, count in counts.items()} == {"mn01": 294, "mn02": 312}


def test_streams_in_one_batch_are_independent() -> None:
    chunks = wave(2).reshape(2, -1) * torch.tensor([[1.0], [0.001]])
    network = published("mn01")
    torch.testing.assert_close(network(chunks)[1:], network(chunks[1:]), atol=1e-6, rtol=0)


def test_a_variant_is_a_model_at_a_chunk_length() -> None:
    assert len(VARIANTS) == 18 * len(DELAYS)
    names = {variant.name for variant in VARIANTS.values()}
    assert names >= {"mn04-1s", "mn10-hop-5-10s", "mn10-fc-s2211-2s"}
    assert [VARIANTS["mn10-hop-15", delay].frames for delay in DELAYS] == [67, 134, 334, 667]
    assert [VARIANTS["mn10", delay].frames for delay in DELAYS] == [100, 200, 500, 1000]
