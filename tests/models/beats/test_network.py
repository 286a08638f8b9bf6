"""The PyTorch model against outputs of the published implementation; each quirk of it matters to them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any, cast

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from satexport.models.beats import network
from satexport.models.beats.keys import expected_shapes
from satexport.models.beats.network import Output, Transformer
from satexport.models.beats.reference import LONGEST, SHORTEST, PyTorchStep
from satexport.models.beats.state import count_parameters
from satexport.models.beats.variants import DELAYS, PUBLISHED, VARIANTS, find_buckets, find_model
from satexport.models.checkpoint import load_checkpoint
from tests.models import seeded
from tests.models.beats.vectors import SECONDS, TINY, recorded, save, seeded_model, wave, weights

pytestmark = pytest.mark.usefixtures("own_cache_folder", "one_thread")
LOGITS = 7e-6      # published and float64 differ by as much
FEATURES = 2e-4


def output(model: Transformer, audio: np.ndarray[Any, np.dtype[np.float32]]) -> Output:
    with torch.inference_mode():
        return model.tag(model.features(torch.from_numpy(audio)))


@pytest.mark.parametrize("seconds", SECONDS)
def test_a_file_gives_the_published_outputs_with_its_classes_in_audiosets_order(
        seconds: int, tmp_path: Path) -> None:
    checkpoint = load_checkpoint(str(save(tmp_path)), find_model(TINY)[seconds])
    step, expected = PyTorchStep(checkpoint), recorded(seconds)
    with torch.inference_mode():
        features = step.model.features(torch.from_numpy(wave(seconds))).numpy()
    frames = expected["features"].shape[1]
    np.testing.assert_allclose(features[:, :frames], expected["features"], rtol=0, atol=FEATURES)
    np.testing.assert_allclose(features.mean(1), expected["features_mean"], rtol=0, atol=FEATURES / 10)
    found = output(step.model, wave(seconds))
    np.testing.assert_allclose(found.logits, expected["logits"], rtol=0, atol=LOGITS)
    np.testing.assert_allclose(found.embedding, expected["embedding"], rtol=0, atol=LOGITS)
    np.testing.assert_allclose(step(wave(seconds), None)[0].scores, expected["scores"], rtol=0, atol=LOGITS)
    assert checkpoint.variant.tokens == expected["tokens"]


def test_the_seeded_weights_are_those_of_the_vectors() -> None:
    state = seeded_model(TINY, 1).state
    assert state.keys() == weights().keys()
    for key, value in weights().items():
        np.testing.assert_array_equal(state[key], value)


@pytest.mark.long
@pytest.mark.parametrize("seconds", SECONDS)
def test_the_published_size_gives_the_published_outputs(seconds: int, shared: Path) -> None:
    expected = np.load(shared / "golden" / "baselines" / "beats_full_seeded.npz")
    found = output(PyTorchStep(seeded_model("beats", seconds)).model, wave(seconds))
    for name, value in found._asdict().items():
        key = f"beats/{'logits' if name == 'logits' else 'embedding'}_{seconds}s"
        np.testing.assert_allclose(value, expected[key], rtol=0, atol=3e-5)


# What other code easily does differently. Each test changes one thing and sees that the logits move.

def moved(change: Callable[[Transformer], Any] = lambda model: None, model: str = TINY,
          seconds: int = 2) -> float:
    """Return how far the logits of a changed model are from the published ones of the small model."""
    variant = find_model(model)[seconds]
    other = PyTorchStep(replace(seeded_model(TINY, seconds), variant=variant)).model
    change(other)
    return float(np.abs(output(other, wave(seconds)).logits.numpy() - recorded(seconds)["logits"]).max())


def position_code(norm_over: tuple[int, ...], first: int) -> Callable[[network.PositionConv, Tensor], Tensor]:
    """Return the position code with other norms of its weights, or from another output on."""
    def forward(self: network.PositionConv, x: Tensor) -> Tensor:
        norm = self.weight_v.square().sum(norm_over, keepdim=True).sqrt()
        weight = self.weight_g * self.weight_v / norm
        y = F.conv1d(x.transpose(1, 2), weight, self.bias, padding=64, groups=16)
        return F.gelu(y[..., first:first + x.shape[1]]).transpose(1, 2)
    return forward


@pytest.mark.parametrize(("norm_over", "first", "is_published"), [
    ((0, 1), 0, True), ((1, 2), 0, False), ((0, 1), 1, False)])
def test_each_tap_of_the_position_code_has_a_norm_and_the_last_output_is_dropped(
        norm_over: tuple[int, ...], first: int, is_published: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(network.PositionConv, "forward", position_code(norm_over, first))
    assert (moved() < LOGITS) == is_published


def test_tokens_are_in_the_order_of_time() -> None:
    assert moved(lambda model: model.patch_embedding.register_forward_hook(
        lambda module, args, patches: patches.transpose(2, 3))) > 1e-3


def test_the_residual_has_a_factor_that_grows_with_the_depth() -> None:
    assert VARIANTS["beats", 10].alpha == pytest.approx(2.2133638)
    assert moved(model=TINY.replace("-embed32", "-embed32-plain")) > 1e-3


def hook_gates(model: Transformer, change: Callable[[Tensor], Tensor], before: bool) -> None:
    for layer in model.encoder.layers:
        gate = cast(network.Block, layer).self_attn.grep_linear
        if before:
            gate.register_forward_pre_hook(lambda module, args: (change(args[0]),))
        else:
            gate.register_forward_hook(lambda module, args, numbers: change(numbers))


@pytest.mark.parametrize(("change", "before"), [
    (lambda query: query / 4, True),                    # the query after it is scaled, by sqrt(48 / 3)
    (lambda numbers: torch.full_like(numbers, -100), False),  # one gate for all
    (lambda numbers: numbers.unflatten(-1, (4, 2)).transpose(-1, -2).flatten(-2), False)])  # other sums
def test_each_query_scales_its_bias_by_a_gate_of_the_query_before_it_is_scaled(
        change: Callable[[Tensor], Tensor], before: bool) -> None:
    assert moved(lambda model: hook_gates(model, change, before)) > 1e-3


def test_distances_are_between_tokens_and_grow_in_buckets() -> None:
    buckets = dict(zip(range(-495, 496), find_buckets(PUBLISHED, 496).tolist(), strict=True))
    assert [buckets[offset] for offset in (0, -1, 1, -79, 79, 80, 81, -81, 495)] == [
        0, 1, 161, 79, 239, 240, 240, 80, 303]
    assert find_buckets(PUBLISHED, 2000).max() == 319
    small = replace(PUBLISHED, buckets=8, distance=16)  # 4 for each direction, of which 2 exact
    assert find_buckets(small, 9).tolist() == [3, 3, 3, 2, 2, 2, 2, 1, 0, 5, 6, 6, 6, 6, 7, 7, 7]


def test_the_distances_of_the_logits_are_those_of_tokens_and_of_the_file(
        monkeypatch: pytest.MonkeyPatch) -> None:
    assert moved(model=TINY.replace("-embed32", "-embed32-distance1280"), seconds=10) > 1e-4
    monkeypatch.setattr(network, "find_buckets",
                        lambda size, tokens: np.repeat(find_buckets(size, tokens)[::8], 8)[:2 * tokens - 1])
    assert moved() > 1e-3


def test_frames_behind_the_last_whole_patch_are_not_read() -> None:
    model = PyTorchStep(seeded_model(TINY, 1)).model
    features = torch.from_numpy(recorded(1)["features"])                    # 98 frames
    with torch.inference_mode():
        used, same, more = (model.tag(F.pad(features, (0, 0, 0, count), value=9)).logits
                            for count in (-2, 13, 14))
    assert torch.equal(used, same)
    assert not torch.equal(used, more)


# Clips, streams, variants.

@pytest.mark.parametrize("samples", [1, 2799, 2800])
def test_a_clip_that_is_shorter_than_a_patch_is_padded_to_one(samples: int) -> None:
    step, clip = PyTorchStep(seeded_model(TINY, 1)), wave(1)[0, :samples]
    assert SHORTEST == 2800
    padded = np.pad(clip, (0, 2800 - samples))
    np.testing.assert_array_equal(step.clip_scores(clip[None]), step.clip_scores(padded[None]))


def test_a_clip_is_scored_in_one_pass_of_at_most_30_s() -> None:
    step = PyTorchStep(seeded_model(TINY, 1))
    np.testing.assert_allclose(step.clip_scores(wave(2)[:1]), recorded(2)["scores"][:1], rtol=0, atol=LOGITS)
    clip = seeded.waveform(31, 16_000)
    np.testing.assert_array_equal(step.clip_scores(clip[None]), step.clip_scores(clip[:LONGEST][None]))


def test_streams_in_one_batch_are_independent() -> None:
    step, chunks = PyTorchStep(seeded_model(TINY, 1)), wave(2).reshape(2, -1)
    both, second = (step(audio, None)[0].scores for audio in (chunks, chunks[1:]))
    np.testing.assert_allclose(both[1:], second, rtol=0, atol=1e-6)


def test_a_variant_is_a_model_at_a_chunk_length() -> None:
    assert [VARIANTS["beats", delay].frames for delay in DELAYS] == [98, 198, 498, 998]
    assert [VARIANTS["beats", delay].tokens for delay in DELAYS] == [48, 96, 248, 496]


def test_the_published_size_has_the_published_number_of_parameters_in_252_entries() -> None:
    assert count_parameters(VARIANTS["beats", 10], 527) == 90_717_055
    assert len(expected_shapes(PUBLISHED, 527)) == 252
    small = find_model(TINY)[1]
    parameters = Transformer(small, 527).parameters()  # the table of all layers counts once
    assert sum(parameter.numel() for parameter in parameters) == count_parameters(small, 527)
