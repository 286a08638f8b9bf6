"""The reference in PyTorch against recorded outputs of the published implementation."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from satexport.models.checkpoint import load_checkpoint
from satexport.models.family import Checkpoint
from satexport.models.passt.network import Output, Transformer
from satexport.models.passt.reference import PyTorchStep
from satexport.models.passt.variants import VARIANTS, Variant, find_model
from tests.models import seeded
from tests.models.passt.vectors import (
    BASELINES,
    SECONDS,
    TINY,
    TINY_16,
    published_names,
    recorded,
    save,
    seeded_model,
    wave,
)

pytestmark = pytest.mark.usefixtures("own_cache_folder", "one_thread")
FEATURES = 5e-5  # of a normalised log-mel
LOGITS = 2e-5    # of a small model; in float64, published and ours differ by up to 1.6e-5
FULL = 8e-5      # of the published size; in float64 by up to 5.3e-5
INNER = 3e-6     # of logits from the stored features


def output(model: Transformer, audio: np.ndarray) -> Output:
    with torch.inference_mode():
        return model.tag(model.features(torch.from_numpy(audio)))


@pytest.fixture
def tiny(tmp_path: Path) -> Checkpoint[Variant]:
    """The small model of the vectors, from a file with the published names."""
    return load_checkpoint(str(save(tmp_path, published_names())), find_model(TINY)[2])


@pytest.mark.parametrize("seconds", SECONDS)
def test_the_features_are_the_published_ones(seconds: int, tiny: Checkpoint[Variant]) -> None:
    expected = recorded(TINY, seconds)
    with torch.inference_mode():
        features = PyTorchStep(tiny).model.features(torch.from_numpy(wave(seconds))).numpy()
    assert features.shape == (1, 128, 100 * seconds)
    frames = expected["features"].shape[2]
    np.testing.assert_allclose(features[..., :frames], expected["features"], rtol=0, atol=FEATURES)
    np.testing.assert_allclose(features.mean(2), expected["features_mean"], rtol=0, atol=FEATURES / 10)


@pytest.mark.parametrize("seconds", SECONDS)
@pytest.mark.parametrize("model", [TINY, TINY_16])
def test_a_small_model_gives_the_published_outputs(model: str, seconds: int) -> None:
    step, expected = PyTorchStep(seeded_model(model, seconds)), recorded(model, seconds)
    found = output(step.model, wave(seconds))
    np.testing.assert_allclose(found.logits, expected["logits"], rtol=0, atol=LOGITS)
    np.testing.assert_allclose(found.embedding, expected["embedding"], rtol=0, atol=LOGITS)
    outputs, cache = step(wave(seconds), None)
    np.testing.assert_allclose(outputs.scores, 1 / (1 + np.exp(-expected["logits"])), rtol=0, atol=1e-5)
    assert cache is None


@pytest.mark.parametrize("seconds", [1, 2])
def test_the_stored_features_give_the_published_logits_by_the_first_columns_of_the_time_table(
        seconds: int, tiny: Checkpoint[Variant]) -> None:
    model, expected = PyTorchStep(tiny).model, recorded(TINY, seconds)
    with torch.inference_mode():
        features = torch.from_numpy(expected["features"])
        found = model.tag(features).logits.numpy()
        columns = find_model(TINY)[seconds].columns
        model.time_new_pos_embed.data = model.time_new_pos_embed.roll(-(99 - columns) // 2, -1)
        middle = model.tag(features).logits.numpy()
    np.testing.assert_allclose(found, expected["logits"], rtol=0, atol=INNER)
    assert np.abs(middle - expected["logits"]).max() > 0.01


def test_the_shortest_chunk_gives_the_published_logits(tiny: Checkpoint[Variant]) -> None:
    expected = np.load(BASELINES / "passt_full_seeded.npz")["passt-tiny/logits_160ms"]
    found = output(PyTorchStep(tiny).model, wave(1)[:, :5120])
    np.testing.assert_allclose(found.logits, expected, rtol=0, atol=LOGITS)


def test_the_norms_of_the_blocks_have_another_epsilon_than_the_head(tiny: Checkpoint[Variant]) -> None:
    norms = [norm.eps for norm in PyTorchStep(tiny).model.modules() if isinstance(norm, torch.nn.LayerNorm)]
    np.testing.assert_allclose(norms, [1e-6] * 5 + [1e-5], rtol=1e-6)


@pytest.mark.long
@pytest.mark.parametrize("seconds", SECONDS)
@pytest.mark.parametrize("model", ["passt-s10", "passt-s16"])
def test_the_published_size_gives_the_published_outputs(model: str, seconds: int) -> None:
    expected = recorded(model, seconds)
    found = output(PyTorchStep(seeded_model(model, seconds)).model, wave(seconds))
    np.testing.assert_allclose(found.logits, expected["logits"], rtol=0, atol=FULL)
    np.testing.assert_allclose(found.embedding, expected["embedding"], rtol=0, atol=FULL)


def test_the_vectors_are_those_of_the_wave_that_is_rebuilt() -> None:
    for seconds in (1, 2):
        np.testing.assert_array_equal(wave(seconds)[0] * 32768, recorded(TINY, seconds)["wave"])


@pytest.mark.parametrize(("model", "longest"), [(TINY, 10), (TINY.replace("s10", "s10-20sec"), 20)])
def test_a_clip_is_scored_in_one_pass_up_to_the_longest_audio_of_the_model(model: str, longest: int) -> None:
    step = PyTorchStep(load_checkpoint("random", find_model(model)[1]))
    assert step.clip_protocol == f"the whole clip in one pass; of a longer clip the first {longest} s"
    clip = seeded.waveform(longest + 2, 32_000)
    whole = step.clip_scores(clip[None])
    np.testing.assert_array_equal(whole, step.clip_scores(clip[:longest * 32_000][None]))
    assert np.abs(whole - step.clip_scores(clip[:(longest - 1) * 32_000][None])).max() > 1e-4
    with pytest.raises(RuntimeError, match="size"):  # the model itself refuses what its table lacks
        step(clip[None], None)


@pytest.mark.parametrize("samples", [1, 4800])
def test_a_clip_that_is_shorter_than_a_patch_is_padded_to_one(
        samples: int, tiny: Checkpoint[Variant]) -> None:
    step, clip = PyTorchStep(tiny), wave(1)[0, :samples]
    padded = np.pad(clip, (0, 4801 - samples))
    np.testing.assert_array_equal(step.clip_scores(clip[None]), step.clip_scores(padded[None]))
    with pytest.raises(RuntimeError):  # the model itself refuses less than a patch
        step(clip[None], None)


def test_streams_in_one_batch_are_independent(tiny: Checkpoint[Variant]) -> None:
    step, chunks = PyTorchStep(tiny), wave(2).reshape(2, -1) * np.array([[1], [0.001]], np.float32)
    together, alone = step(chunks, None)[0].scores, step(chunks[1:], None)[0].scores
    np.testing.assert_allclose(together[1:], alone, rtol=0, atol=1e-6)


# Variants.

@pytest.mark.parametrize(("model", "rows", "table", "columns", "tokens"), [
    ("passt-s10", 12, 99, {1: 9, 2: 19, 5: 49, 10: 99}, 1190),
    ("passt-s12", 10, 83, {10: 83}, 832), ("passt-s14", 9, 71, {10: 71}, 641),
    ("passt-s16", 8, 62, {1: 6, 2: 12, 5: 31, 10: 62}, 498), ("passt-l", 12, 99, {10: 99}, 1190),
    ("passt-s10-20sec", 12, 200, {10: 99, 20: 199}, 2390),
    ("passt-s10-30sec", 12, 300, {20: 199, 30: 299}, 3590),
    ("passt-s10-stfthop160", 12, 200, {1: 19, 10: 199}, 2390),
    ("passt-s10-stfthop100", 12, 320, {1: 31, 10: 319}, 3830)])
def test_the_tables_of_long_audio_and_other_hops_have_one_column_more_than_is_used(
        model: str, rows: int, table: int, columns: dict[int, int], tokens: int) -> None:
    variants = find_model(model)
    assert {delay: variants[delay].columns for delay in columns} == columns
    longest = variants[max(variants)]
    assert (longest.rows, longest.table_columns, longest.tokens) == (rows, table, tokens)
    assert longest.table_columns - longest.columns == (1 if "0-" in model else 0)
    assert longest.depth == (7 if model == "passt-l" else 12)


def test_the_published_sizes_have_the_published_numbers_of_parameters() -> None:
    for model, count in (("passt-s10", 86.2e6), ("passt-s16", 86.1e6)):
        with torch.device("meta"):
            network = Transformer(VARIANTS[model, 10], 527)
        total = sum(parameter.numel() for parameter in network.parameters())
        unused = 527 * 768 + 527  # `head_dist`, which the file has
        assert total + unused == pytest.approx(count, abs=0.05e6)
        assert len(network.state_dict()) == 159 - 2


def test_a_model_of_another_size_has_its_size_in_its_name() -> None:
    variant = find_model("passt-s10-20sec-48x3x2")[20]
    assert (variant.width, variant.heads, variant.depth, variant.mlp) == (48, 3, 2, 192)
    assert (variant.stride, variant.table_columns) == (10, 200)
    for model in ("passt", "passt-s11", "passt-s16-20sec", "passt-l-48x3x2", "passt-s10-48"):
        assert find_model(model) == {}
