"""The PyTorch model against outputs of the published implementation."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from satexport.frontends.rows import SLANEY_MEL_32K as MEL
from satexport.models.htsat.network import Output, Transformer
from satexport.models.htsat.reference import PyTorchStep
from satexport.models.htsat.variants import DELAYS, VARIANTS, Variant, find_model
from tests.models import seeded
from tests.models.htsat.vectors import CLASSES, SECONDS, TINY, recorded, seeded_model, wave

pytestmark = pytest.mark.usefixtures("own_cache_folder", "one_thread")


def step_of(seconds: int) -> PyTorchStep:
    return PyTorchStep(seeded_model(TINY, seconds, CLASSES))


def output(model: Transformer, audio: np.ndarray) -> Output:
    with torch.inference_mode():
        return model.tag(model.features(torch.from_numpy(audio)))


@pytest.mark.parametrize("seconds", SECONDS)
def test_the_features_are_the_published_ones_with_zero_samples_behind(seconds: int) -> None:
    expected, audio = recorded(seconds), torch.from_numpy(wave(seconds))
    model = step_of(seconds).model
    with torch.inference_mode():
        alone, padded = (features.numpy() for features in (model.front_end(audio), model.features(audio)))
    frames = expected["features"].shape[1]
    np.testing.assert_allclose(alone[:, :frames], expected["features"], rtol=0, atol=9e-4)
    np.testing.assert_allclose(alone.mean(1), expected["features_mean"], rtol=0, atol=9e-5)
    assert padded.shape == (1, 1001, 64)
    live = MEL.frame_count(audio.shape[1])
    assert (padded[:, live:] == -100).all()
    assert seconds == 10 or (padded[:, live - 1] > -100).any()  # it has samples of the audio and zeros


@pytest.mark.parametrize("seconds", SECONDS)
def test_the_small_model_gives_the_published_outputs(seconds: int) -> None:
    step, expected = step_of(seconds), recorded(seconds)
    found = output(step.model, wave(seconds))
    np.testing.assert_allclose(found.logits, expected["logits_pad"], rtol=0, atol=1e-4)
    np.testing.assert_allclose(found.embedding, expected["embedding_pad"], rtol=0, atol=1e-4)
    framewise = found.framewise.sigmoid().transpose(1, 2)[..., :8]
    np.testing.assert_allclose(framewise, expected["framewise_pad"], rtol=0, atol=5e-5)
    scores = step(wave(seconds), None)[0].scores
    np.testing.assert_allclose(scores, expected["scores_pad"], rtol=0, atol=2e-5)


@pytest.mark.parametrize("seconds", [1, 2])
def test_the_stored_features_stretched_to_the_image_give_the_published_outputs(seconds: int) -> None:
    model, expected = step_of(seconds).model, recorded(seconds)
    with torch.inference_mode():
        found = model.tag(torch.from_numpy(expected["features"]))  # another way to treat a short chunk
    np.testing.assert_allclose(found.logits, expected["logits_stretch"], rtol=0, atol=1e-5)
    np.testing.assert_allclose(found.embedding, expected["embedding_stretch"], rtol=0, atol=1e-5)


def test_every_norm_has_the_epsilon_1e_5() -> None:
    kinds = (torch.nn.LayerNorm, torch.nn.BatchNorm2d)
    norms = [module for module in step_of(1).model.modules() if isinstance(module, kinds)]
    assert len(norms) == 1 + 1 + 8 * 2 + 3 + 1  # of the bands, patches, blocks, between stages, last
    assert {norm.eps for norm in norms} == {1e-5}


@pytest.mark.long
@pytest.mark.parametrize("seconds", SECONDS)
def test_the_published_size_gives_the_published_outputs(seconds: int, shared: Path) -> None:
    expected = np.load(shared / "golden" / "baselines" / "htsat_full_seeded.npz")
    found = output(PyTorchStep(seeded_model("htsat", seconds, 527)).model, wave(seconds))
    np.testing.assert_allclose(found.logits, expected[f"htsat/logits_pad_{seconds}s"], rtol=0, atol=1.2e-4)
    np.testing.assert_allclose(
        found.embedding, expected[f"htsat/embedding_pad_{seconds}s"], rtol=0, atol=1.2e-4)


def test_the_vectors_are_those_of_the_wave_that_is_rebuilt() -> None:
    for seconds in (1, 2):
        np.testing.assert_array_equal(wave(seconds)[0] * 32768, recorded(seconds)["wave"])


def test_the_image_has_four_pieces_of_time_above_each_other() -> None:
    model = step_of(10).model
    decibels = torch.randn(1, 1001, 64)
    normalised = model.bn0(decibels.transpose(1, 2)[..., None])[..., 0]             # [1, 64, 1001]
    stretched = F.interpolate(normalised[:, :, None], (1, 1024), mode="bicubic", align_corners=True)[:, :, 0]
    image = model.image(decibels)
    assert image.shape == (1, 1, 256, 256)
    for piece in range(4):
        found, expected = image[0, 0, 64 * piece:64 * (piece + 1)], stretched[0, :, 256 * piece:][:, :256]
        np.testing.assert_allclose(found, expected, rtol=0, atol=1e-4)


def test_a_longer_clip_has_the_mean_score_of_its_pieces_of_10_s() -> None:
    step, clip = step_of(10), seeded.waveform(13, 32_000)
    assert "of a longer one, the mean" in step.clip_protocol
    pieces = [step(piece[None], None)[0].scores for piece in (clip[:320_000], clip[320_000:])]
    np.testing.assert_allclose(step.clip_scores(clip[None]), np.mean(pieces, 0), rtol=0, atol=1e-6)
    assert np.abs(pieces[0] - pieces[1]).max() > 0.01
    np.testing.assert_allclose(step.clip_scores(wave(2)[:1]), recorded(2)["scores_pad"][:1], 0, 2e-5)
    assert step.clip_scores(clip[:1][None]).shape == (1, CLASSES)


def test_streams_in_one_batch_are_independent() -> None:
    step, chunks = step_of(1), wave(2).reshape(2, -1) * np.array([[1], [0.001]], np.float32)
    both, second = (step(audio, None)[0].scores for audio in (chunks, chunks[1:]))
    np.testing.assert_allclose(both[1:], second, rtol=0, atol=1e-6)


# Variants.

def test_a_variant_is_a_model_at_a_chunk_length() -> None:
    assert {variant.name for variant in VARIANTS.values()} == {f"htsat-{delay}s" for delay in DELAYS}
    assert [VARIANTS["htsat", delay].frames for delay in DELAYS] == [102, 202, 502, 1001]
    assert [(stage.width, stage.side, stage.windows) for stage in VARIANTS["htsat", 1].stages] == [
        (96, 64, 64), (192, 32, 16), (384, 16, 4), (768, 8, 1)]


def test_every_second_block_has_shifted_windows_except_in_the_last_stage() -> None:
    shifted = [[stage.is_shifted(block) for block in range(stage.depth)]
               for stage in VARIANTS["htsat", 10].stages]
    assert shifted == [[False, True], [False, True], [False, True] * 3, [False, False]]


def test_the_published_size_has_the_published_names_and_parameters() -> None:
    with torch.device("meta"):
        model = Transformer(VARIANTS["htsat", 10], 527)
    # 31.3 M in the paper: the file also has the STFT (1.05 M), the mel filters and a layer that never runs
    assert sum(parameter.numel() for parameter in model.parameters()) == 29_963_431
    buffers = 12 + 5 + 3 + 2  # indices of positions, masks, front end, the layer that never runs
    assert len(model.state_dict()) == 200 - buffers


def test_a_model_of_another_size_has_its_size_in_its_name() -> None:
    variant: Variant = find_model(TINY)[1]
    assert (variant.width, variant.heads, variant.depths) == (8, (1, 2, 2, 4), (2, 2, 2, 2))
    assert find_model("htsat-8") == find_model("htsat-8x1-2-2x2-2-2-2") == find_model("htsat-tiny") == {}
