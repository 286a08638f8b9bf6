"""Files of weights: those of Lightning, sizes from shapes, and what is refused."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from satexport.errors import CheckpointError, UsageError
from satexport.frontends.mel_banks import htk_mel_bank, slaney_mel_bank
from satexport.models.checkpoint import load_checkpoint, recognize_variant
from satexport.models.families import find_variant
from satexport.models.htsat.keys import WAVES, expected_shapes
from satexport.models.htsat.published import PAGE
from satexport.models.htsat.state import front_end_entries
from satexport.models.htsat.variants import VARIANTS, find_model
from tests.commands.calls import call
from tests.models.checkpoints import save_torch
from tests.models.htsat.vectors import PREFIX, TINY, lightning, save, weights_of

pytestmark = pytest.mark.usefixtures("own_cache_folder", "one_thread")

SMALL = find_model(TINY)[1]
FILTERS = "logmel_extractor__melW"


def refusal(path: Path) -> str:
    with pytest.raises(CheckpointError) as caught:
        load_checkpoint(str(path), SMALL)
    return str(caught.value)


def test_a_published_file_and_its_weights_alone_give_the_same_model(tmp_path: Path) -> None:
    file = lightning()
    path = save(tmp_path, file)
    assert recognize_variant(str(path), 10) == find_model(TINY)[10]  # the shapes show the heads, too
    loaded, expected = load_checkpoint(str(path), SMALL), weights_of(TINY, 527)
    assert loaded.caution == ""
    bare = {key.removeprefix(PREFIX): value for key, value in file["state_dict"].items()}
    alone = load_checkpoint(str(save_torch(tmp_path / "bare.pt", bare)), SMALL)
    assert loaded.state.keys() == alone.state.keys() == expected.keys()
    for key, value in expected.items():
        np.testing.assert_array_equal(loaded.state[key], value)
        np.testing.assert_array_equal(alone.state[key], value)


def test_what_follows_from_the_size_may_be_missing(tmp_path: Path) -> None:
    state = {key: torch.from_numpy(value) for key, value in weights_of(TINY, 527).items()}
    loaded = load_checkpoint(str(save_torch(tmp_path / "w.pt", state)), SMALL)
    assert loaded.state.keys() == state.keys()


@pytest.mark.parametrize(("changed", "words"), [
    ({"extra": torch.zeros(2)}, r"extra \(2,\) is not expected.*1 more"),
    ({"norm__bias": None}, "norm.bias .* is missing.*incomplete"),
    ({"norm__bias": torch.zeros(7)}, r"norm.bias is \(7,\), expected \(64,\)"),
    ({"norm__bias": torch.full((64,), torch.nan)}, "has NaN or infinite values"),
    ({"norm__bias": torch.zeros(64, dtype=torch.int32)}, "is int32")], ids=range(5))
def test_a_file_is_read_strictly(changed: dict[str, Any], words: str, tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match=words):
        load_checkpoint(str(save(tmp_path, lightning(), **changed)), SMALL)


def test_names_behind_another_prefix_are_explained(tmp_path: Path) -> None:
    state = {f"net.{key}": value for key, value in lightning()["state_dict"].items()}
    message = refusal(save_torch(tmp_path / "w.pt", state))
    assert "names start with 'net.sed_model.'" in message
    assert "k.removeprefix('net.sed_model.')" in message


@pytest.mark.parametrize("changed", [
    {FILTERS: torch.from_numpy(slaney_mel_bank(16_000, 1024, 64, 50, 8000)).float()},
    {FILTERS: torch.from_numpy(slaney_mel_bank(48_000, 1024, 64, 50, 14_000)).float()},
    {FILTERS: torch.from_numpy(htk_mel_bank(32_000, 1024, 64, 50, 14_000)).float()},
    {FILTERS: torch.zeros(513, 128)}, {FILTERS: torch.zeros(257, 64)},
    {WAVES[0].replace(".", "__"): torch.from_numpy(front_end_entries()[WAVES[1]])}], ids=range(6))
def test_a_model_with_another_front_end_is_refused(changed: dict[str, Any], tmp_path: Path) -> None:
    message = refusal(save(tmp_path, lightning(), **changed))
    assert "than the published HTS-AT, which is not supported; expected a model for audio of 32" in message


# Which model a file is.

def test_a_file_of_another_size_is_named(tmp_path: Path) -> None:
    path = save(tmp_path, lightning())
    with pytest.raises(CheckpointError, match=f"looks like {TINY} .*pass --model {TINY} --delay 2"):
        load_checkpoint(str(path), VARIANTS["htsat", 2])
    published = {PREFIX + key: torch.zeros(()).expand(shape)
                 for key, shape in expected_shapes(VARIANTS["htsat", 1], 527).items()}
    message = refusal(save_torch(tmp_path / "published.pt", published))
    assert "This looks like htsat at 1 s" in message


@pytest.mark.parametrize("names", [
    ("module.audio_branch.", "module.text_branch.encoder.weight", "module.logit_scale_a"),
    ("audio_model.audio_encoder.", "text_model.embeddings.weight", "logit_scale_a"),
    ("audio_branch.",), ("module.audio_branch.",)], ids=["LAION", "Hub", "audio only", "audio only, module"])
def test_a_clap_is_refused_by_name(names: tuple[str, ...], tmp_path: Path) -> None:
    state = {names[0] + key.removeprefix(PREFIX): value for key, value in lightning()["state_dict"].items()}
    state |= {name: torch.zeros(1) for name in names[1:]}
    for content in (state, {"epoch": 3, "optimizer": {"state": {}}, "state_dict": state}):
        path = save_torch(tmp_path / "clap.pt", content)
        assert f"{path}: is a CLAP model: an HTS-AT for 48 kHz" in refusal(path)
        result = call("onnx", "--checkpoint", path, "--output", tmp_path / "build")
        assert (result.code, "is a CLAP model" in result.err) == (4, True)


def test_a_file_of_another_family_is_recognised(tmp_path: Path) -> None:
    sat = {key: torch.from_numpy(value)
           for key, value in load_checkpoint("random", find_variant("sat-t", 2)).state.items()}
    path = save_torch(tmp_path / "sat.pt", sat)
    with pytest.raises(CheckpointError, match=r"is not htsat at 2 s\. This looks like sat-t at 2 s"):
        load_checkpoint(str(path), VARIANTS["htsat", 2])
    with pytest.raises(CheckpointError, match=f"looks like {TINY} at 2 s: pass --model {TINY} --delay 2"):
        load_checkpoint(str(save(tmp_path, lightning())), find_variant("sat-t", 2))


@pytest.mark.parametrize(("model", "words"), [
    ("htsat-8x3-2-2-4x2-2-2-2", "a number of heads that divides its width"),
    ("htsat-0x1-1-1-1x2-2-2-2", "a width up to 256"), ("htsat-512x1-1-1-1x2-2-2-2", "a width up to 256"),
    ("htsat-8x1-2-2-4x2-2-0-2", "depths from 1 to 24"), ("htsat-8x1-2-2-4x2-2-25-2", "depths from 1 to 24"),
    ("htsat-tiny", "unknown model")])
def test_impossible_models_are_wrong_use(model: str, words: str) -> None:
    with pytest.raises(UsageError, match=words):
        find_variant(model, 1)


def test_more_than_10_s_are_wrong_use() -> None:
    with pytest.raises(UsageError, match="htsat has no delay of 11 s; it has 1, 2, 5, 10"):
        find_variant("htsat", 11)
    with pytest.raises(UsageError, match="htsat has no window of 20 s"):
        find_variant("htsat", 1, 20)


# Public files.

@pytest.mark.parametrize("number", [1, 6])
def test_a_public_file_must_be_fetched_by_hand(number: int, tmp_path: Path) -> None:
    file = f"HTSAT_AudioSet_Saved_{number}.ckpt"
    with pytest.raises(CheckpointError) as caught:
        load_checkpoint(f"published:{file}", VARIANTS["htsat", 10])
    assert f"{file} has no direct address: fetch it from {PAGE}" in str(caught.value)
    assert f"put it at {tmp_path / 'cache' / 'published' / file}" in str(caught.value)
