"""The PyTorch models against outputs of the published implementations."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from satexport.models.ast.network import Output, Transformer
from satexport.models.ast.reference import PyTorchStep
from satexport.models.ast.variants import DELAYS, VARIANTS, Variant, find_model
from satexport.models.checkpoint import load_checkpoint
from satexport.models.family import Checkpoint
from tests.models import seeded
from tests.models.ast.vectors import (
    BASELINES,
    FEATURES,
    SECONDS,
    TINY,
    full_size,
    original_names,
    recorded,
    save,
    transformers_names,
    wave,
)

SMALL = find_model(TINY)[1]
pytestmark = pytest.mark.usefixtures("own_cache_folder", "one_thread")


def output(model: Transformer, audio: np.ndarray) -> Output:
    with torch.inference_mode():
        return model.tag(model.features(torch.from_numpy(audio)))


@pytest.fixture
def tiny(tmp_path: Path) -> Checkpoint[Variant]:
    """The small model of the vectors, from a file with the names of transformers."""
    return load_checkpoint(str(save(tmp_path, transformers_names())), find_model(TINY)[2])


@pytest.mark.parametrize("seconds", SECONDS)
def test_the_features_are_the_published_ones_with_zero_frames_behind(
        seconds: int, tiny: Checkpoint[Variant]) -> None:
    expected = recorded(seconds)
    with torch.inference_mode():
        features = PyTorchStep(tiny).model.features(torch.from_numpy(wave(seconds))).numpy()
    assert features.shape == (1, 1024, 128)
    frames = expected["features"].shape[1]
    np.testing.assert_allclose(features[:, :frames], expected["features"], rtol=0, atol=FEATURES)
    np.testing.assert_allclose(features.mean(1), expected["features_mean"], rtol=0, atol=FEATURES / 10)
    np.testing.assert_allclose(features[:, 998:], 0.4670323, rtol=1e-6)


@pytest.mark.parametrize("seconds", SECONDS)
def test_the_small_model_gives_the_published_outputs(seconds: int, tiny: Checkpoint[Variant]) -> None:
    found, expected = output(PyTorchStep(tiny).model, wave(seconds)), recorded(seconds)
    np.testing.assert_allclose(found.logits, expected["logits"], rtol=0, atol=2e-5)
    np.testing.assert_allclose(found.embedding, expected["embedding"], rtol=0, atol=2e-5)
    outputs, cache = PyTorchStep(tiny)(wave(seconds), None)
    np.testing.assert_allclose(outputs.scores, expected["scores"], rtol=0, atol=1e-5)
    assert cache is None


def test_each_format_is_run_with_its_own_epsilon(tmp_path: Path) -> None:
    files = [save(tmp_path, state, name) for name, state in (
        ("original", original_names()), ("transformers", transformers_names()))]
    original, transformers = (
        output(PyTorchStep(load_checkpoint(str(file), find_model(TINY)[10])).model, wave(10)).logits
        for file in files)
    expected = torch.from_numpy(recorded(10)["logits"])  # by transformers
    assert (transformers - expected).abs().max() < 2e-5
    assert 3e-5 < (original - expected).abs().max() < 1e-4
    found = [[norm.eps for norm in PyTorchStep(load_checkpoint(str(file), SMALL)).model.modules()
              if isinstance(norm, torch.nn.LayerNorm)] for file in files]
    np.testing.assert_allclose(found, [[1e-6] * 5 + [1e-5], [1e-12] * 6], rtol=1e-6)


@pytest.mark.long
@pytest.mark.parametrize("seconds", SECONDS)
def test_the_published_size_gives_the_published_outputs(seconds: int, shared: Path) -> None:
    expected = np.load(shared / "golden" / "baselines" / "ast_full_seeded.npz")
    found = output(PyTorchStep(full_size(seconds)).model, wave(seconds))
    np.testing.assert_allclose(found.logits, expected[f"logits_{seconds}s"], rtol=0, atol=8e-5)
    np.testing.assert_allclose(found.embedding, expected[f"embedding_{seconds}s"], rtol=0, atol=8e-5)


def test_the_vectors_are_those_of_the_wave_that_is_rebuilt() -> None:
    for seconds in (1, 2):
        stored = np.load(BASELINES / f"ast_tiny_{seconds}s.npz")["wave"]
        np.testing.assert_array_equal(wave(seconds)[0] * 32768, stored)


def test_a_clip_is_scored_in_one_pass(tiny: Checkpoint[Variant]) -> None:
    step = PyTorchStep(tiny)
    assert "one pass" in step.clip_protocol
    clip = seeded.waveform(12, 16_000)
    last = 400 + 1023 * 160  # samples in the first 1024 frames
    np.testing.assert_array_equal(step.clip_scores(clip[None]), step.clip_scores(clip[:last][None]))
    assert np.abs(step.clip_scores(clip[None]) - step.clip_scores(clip[:last - 16_000][None])).max() > 1e-4
    np.testing.assert_allclose(step.clip_scores(wave(2)[:1]), recorded(2)["scores"][:1], rtol=0, atol=1e-5)


@pytest.mark.parametrize("samples", [1, 399, 400])
def test_a_clip_that_is_shorter_than_a_frame_is_padded_to_one(
        samples: int, tiny: Checkpoint[Variant]) -> None:
    clip = wave(1)[0, :samples]
    scores = PyTorchStep(tiny).clip_scores(clip[None])
    assert scores.shape == (1, 527)
    padded = np.pad(clip, (0, 400 - samples))
    np.testing.assert_array_equal(scores, PyTorchStep(tiny).clip_scores(padded[None]))


def test_streams_in_one_batch_are_independent(tiny: Checkpoint[Variant]) -> None:
    step, chunks = PyTorchStep(tiny), wave(2).reshape(2, -1) * np.array([[1], [0.001]], np.float32)
    both, second = (step(audio, None)[0].scores for audio in (chunks, chunks[1:]))
    np.testing.assert_allclose(both[1:], second, rtol=0, atol=1e-6)


# Variants.

def test_a_variant_is_a_model_at_a_chunk_length() -> None:
    assert len(VARIANTS) == 4 * len(DELAYS)
    assert {variant.name for variant in VARIANTS.values()} >= {"ast-1s", "ast-s12-10s", "ast-s16-2s"}
    assert [VARIANTS[model, 10].tokens for model in ("ast", "ast-s12", "ast-s14", "ast-s16")] == [
        1214, 852, 659, 514]
    assert [VARIANTS["ast", delay].frames for delay in DELAYS] == [98, 198, 498, 998]
    assert VARIANTS["ast", 1].tokens == 1214


def test_the_published_size_has_the_published_number_of_parameters() -> None:
    with torch.device("meta"):
        network = Transformer(VARIANTS["ast", 10], 527, 1e-6, 1e-5)
    assert sum(parameter.numel() for parameter in network.parameters()) == 86_594_063
    assert len(network.state_dict()) == 159 - 4  # the file has two heads of ImageNet


def test_a_model_of_another_size_has_its_size_in_its_name() -> None:
    variant = find_model(TINY)[1]
    assert (variant.width, variant.heads, variant.depth, variant.mlp, variant.stride) == (48, 3, 2, 96, 10)
    variant = find_model("ast-s16-384x6x9")[1]
    assert (variant.width, variant.heads, variant.depth, variant.mlp, variant.stride) == (384, 6, 9, 1536, 16)
    assert find_model("ast-s10") == find_model("ast-48") == find_model("ast-48x3") == {}
