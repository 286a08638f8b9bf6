"""Files of weights: three formats, sizes and strides from shapes, and what is refused."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.numpy import save as to_bytes

from satexport.bundle.contract import GraphOptions
from satexport.errors import CheckpointError, UsageError
from satexport.models.ast.family import reference
from satexport.models.ast.state import EPS
from satexport.models.ast.variants import VARIANTS, find_model
from satexport.models.checkpoint import find_weights, load_checkpoint, recognize_variant
from satexport.models.families import check_options, find_variant
from satexport.models.family import Checkpoint, State
from satexport.pipeline.export import export_onnx
from satexport.tagging.tagger import load
from satexport.targets import find_target
from tests.commands.calls import START, call
from tests.forked import Forks
from tests.hub_site import COMMIT, Hub
from tests.models.ast.vectors import (
    SIZE,
    TINY,
    hollow,
    names_in_memory,
    original_names,
    save,
    transformers_names,
    wave,
)
from tests.models.checkpoints import save_torch

pytestmark = pytest.mark.usefixtures("own_cache_folder", "one_thread")

SMALL = find_model(TINY)[1]
FORMATS = [original_names, transformers_names, names_in_memory]
formats = pytest.mark.parametrize("names", FORMATS)


def without_prefix() -> State:
    return {key.removeprefix("module."): value for key, value in original_names().items()}


@pytest.mark.parametrize("names", [*FORMATS, without_prefix])
def test_all_names_give_the_same_weights_and_the_epsilons_of_their_code(
        names: Callable[[], State], tmp_path: Path) -> None:
    loaded = load_checkpoint(str(save(tmp_path, names())), SMALL)
    expected = without_prefix()
    assert loaded.state.keys() - expected.keys() == {EPS}
    for key, value in expected.items():
        np.testing.assert_array_equal(loaded.state[key], value)
        assert loaded.state[key].flags.c_contiguous
    is_original = names in (original_names, without_prefix)
    eps = [1e-6, 1e-5] if is_original else [1e-12, 1e-12]
    np.testing.assert_array_equal(loaded.state[EPS], np.array(eps, np.float32))


@formats
def test_a_bundle_is_held_against_the_file_with_its_own_epsilons(
        names: Callable[[], State], tmp_path: Path) -> None:
    path = export_onnx(load_checkpoint(str(save(tmp_path, names())), SMALL), find_target("onnx"), tmp_path,
                       use_onnxsim=False).path
    tagger, audio = load(path), wave(1)
    weights: Checkpoint[Any] = find_weights(tagger.bundle)
    assert weights.state[EPS][0] == np.float32(1e-6 if names is original_names else 1e-12)
    found, expected = tagger.stream().feed(audio[0]), reference(weights)(audio, None)[0].scores
    assert np.abs(found - expected).max() < 1e-5


def test_a_pth_file_has_heads_of_imagenet_that_are_not_used(tmp_path: Path) -> None:
    state = {key: torch.from_numpy(value) for key, value in original_names().items()}
    for head in ("module.v.head", "module.v.head_dist"):
        state |= {f"{head}.weight": torch.zeros(1000, 48), f"{head}.bias": torch.zeros(1000)}
    path = save_torch(tmp_path / "audioset.pth", state)
    assert load_checkpoint(str(path), SMALL).state.keys() == {*without_prefix(), EPS}


@formats
@pytest.mark.parametrize(("change", "words"), [
    (lambda state, key: state | {"extra": np.zeros(2, np.float32)}, r"extra \(2,\) is not expected.*1 more"),
    (lambda state, key: {k: v for k, v in state.items() if k != key}, "is missing.*incomplete"),
    (lambda state, key: state | {key: np.zeros((7, 3), np.float32)}, r"is \(7, 3\), expected \(48, 96\)"),
    (lambda state, key: state | {key: np.full((48, 96), np.nan, np.float32)}, "has NaN or infinite values"),
    (lambda state, key: state | {key: np.zeros((48, 96), np.int32)}, "is int32|is I32"),
    (lambda state, key: {f"net.{k}": v for k, v in state.items()},
     r"start with 'net\..*k\.removeprefix\('net\.")], ids=range(6))
def test_a_file_is_read_strictly(names: Callable[[], State], change: Callable[[State, str], State],
                                 words: str, tmp_path: Path) -> None:
    fc2 = next(key for key, value in names().items() if value.shape == (48, 96))
    with pytest.raises(CheckpointError, match=words):
        load_checkpoint(str(save(tmp_path, change(names(), fc2))), SMALL)


# Which model a file is.

@pytest.mark.parametrize("model", ["ast", "ast-s12", "ast-s14", "ast-s16"])
def test_a_file_tells_its_stride(model: str, tmp_path: Path) -> None:
    path = save_torch(tmp_path / "w.pth", hollow(model))
    assert recognize_variant(str(path), 10) == VARIANTS[model, 10]
    assert recognize_variant(str(path), 1, 10).name == f"{model}-1s-window-10s"
    loaded = load_checkpoint(str(path), find_variant("ast", 1, 10))  # `--model ast --delay 1 --window 10`
    assert loaded.variant == replace(VARIANTS[model, 10], delay=1)


def with_position(rows: int, names: Callable[[], State] = transformers_names) -> State:
    state = names()
    key = next(key for key in state if key.endswith(("position_embeddings", "pos_embed")))
    return state | {key: np.zeros((1, rows, 48), np.float32)}


def test_a_model_without_a_stride_in_its_name_takes_that_of_the_file(tmp_path: Path) -> None:
    path = save(tmp_path, with_position(514))
    assert load_checkpoint(str(path), SMALL).variant == find_model(f"ast-s16-{SIZE}")[1]
    with pytest.raises(CheckpointError, match=r"position_embeddings is \(1, 514, 48\), expected \(1, 852"):
        load_checkpoint(str(path), find_model(f"ast-s12-{SIZE}")[1])


@formats
def test_a_file_of_another_size_needs_a_name_with_its_heads(
        names: Callable[[], State], tmp_path: Path) -> None:
    path = save(tmp_path, names())
    words = r"an AST of width 48 with 2 blocks.*pass --model ast-48xHEADSx2x96 with"
    with pytest.raises(CheckpointError, match=words):
        load_checkpoint(str(path), VARIANTS["ast", 2])
    assert "make sure that this one has 3" in load_checkpoint(str(path), SMALL).caution


@formats
@pytest.mark.parametrize(("rows", "words"), [
    (146, r"is an AST for Speech Commands \(128 frames\).*146 rows.*expected one for 1024 frames"),
    (602, "is an AST for other audio: its position table has 602 rows")])
def test_models_of_other_lengths_are_refused(
        names: Callable[[], State], rows: int, words: str, tmp_path: Path) -> None:
    path = save(tmp_path, with_position(rows, names))
    with pytest.raises(CheckpointError, match=words):
        load_checkpoint(str(path), SMALL)
    result = call("onnx", "--checkpoint", path, "--output", tmp_path / "build")
    assert (result.code, "which is not supported" in result.err) == (4, True)


def test_a_model_without_a_head_is_refused(tmp_path: Path) -> None:
    state = {key: value for key, value in transformers_names().items() if not key.startswith("classifier")}
    bare = {key.removeprefix("audio_spectrogram_transformer."): value for key, value in state.items()}
    for number, content in enumerate((state, bare)):
        with pytest.raises(CheckpointError, match="is an AST without a head, which gives no scores"):
            load_checkpoint(str(save(tmp_path, content, str(number))), SMALL)


def test_a_file_of_another_family_is_recognised(tmp_path: Path) -> None:
    sat = save(tmp_path, load_checkpoint("random", find_variant("sat-t", 2)).state, "sat")
    with pytest.raises(CheckpointError, match=r"is not ast at 2 s\. This looks like sat-t at 2 s"):
        load_checkpoint(str(sat), VARIANTS["ast", 2])
    path = save_torch(tmp_path / "w.pth", hollow("ast-s14"))
    with pytest.raises(CheckpointError, match="looks like ast-s14 at 2 s: pass --model ast-s14 --delay 2"):
        load_checkpoint(str(path), find_variant("sat-t", 2))


@pytest.mark.parametrize(("model", "words"), [
    ("ast-48x5x2", "a width up to 1024 that is a multiple"), ("ast-2048x16x2", "a width up to 1024"),
    ("ast-48x3x99", "a depth from 1 to 24"), ("ast-48x3x2x0", "MLPs of 1 to"),
    ("ast-s10", "unknown model"), ("ast-s12-48x3", "unknown model")])
def test_impossible_models_are_wrong_use(model: str, words: str) -> None:
    with pytest.raises(UsageError, match=words):
        find_variant(model, 1)


def test_the_delays_are_those_of_the_paper_and_no_longer_than_the_model() -> None:
    with pytest.raises(UsageError, match="has no delay of 11 s; it has 1, 2, 5, 10"):
        find_variant("ast", 11)
    with pytest.raises(UsageError, match="ast-1s has no cache: leave --cache out"):
        check_options(VARIANTS["ast", 1], GraphOptions(cache="hidden"))


# Public files.

@pytest.mark.parametrize(("model", "file", "repository"), [
    ("ast", "audioset_10_10_0.4593.pth", "MIT/ast-finetuned-audioset-10-10-0.4593"),
    ("ast-s12", "audioset_12_12_0.4467.pth", "MIT/ast-finetuned-audioset-12-12-0.447"),
    ("ast-s14", "audioset_14_14_0.4431.pth", "MIT/ast-finetuned-audioset-14-14-0.443"),
    ("ast-s16", "audioset_16_16_0.4422.pth", "MIT/ast-finetuned-audioset-16-16-0.442")])
def test_a_public_file_must_be_fetched_by_hand(
        model: str, file: str, repository: str, tmp_path: Path) -> None:
    with pytest.raises(CheckpointError) as caught:
        load_checkpoint("published", VARIANTS[model, 10])
    message = str(caught.value)
    assert f"{file} has no direct address: fetch it from https://github.com/YuanGongND/ast" in message
    assert f"put it at {tmp_path / 'cache' / 'published' / file}" in message
    assert f"or pass --checkpoint hub:{repository};" in message


def test_a_public_file_that_was_fetched_by_hand_is_used(tmp_path: Path) -> None:
    folder = tmp_path / "cache" / "published"
    folder.mkdir(parents=True)
    save_torch(folder / "audioset_16_16_0.4422.pth", hollow("ast-s16"))
    loaded = load_checkpoint("published", VARIANTS["ast-s16", 1])
    assert (loaded.name, loaded.variant.stride) == ("audioset_16_16_0.4422.pth", 16)


CONFIG = {"model_type": "audio-spectrogram-transformer", "architectures": ["ASTForAudioClassification"]}


@pytest.mark.long
def test_a_repository_on_the_hub_is_exported(hub: Hub, tmp_path: Path, forks: Forks) -> None:
    hub.repositories["MIT/ast"] = {
        "config.json": json.dumps(CONFIG).encode(), "model.safetensors": to_bytes(transformers_names())}
    result = forks.run(START, "onnx", "--model", TINY, "--delay", 1, "--checkpoint", "hub:MIT/ast",
                       "--no-simplify", "--output", tmp_path)
    assert result.code == 0, result.err
    origin = load(tmp_path / f"{TINY}-1s" / "onnx").contract.checkpoint
    assert (origin.source, origin.name) == ("hub", f"hub:MIT/ast/model.safetensors@{COMMIT}")


def test_a_repository_of_another_model_is_refused_before_its_weights_are_fetched(
        hub: Hub, tmp_path: Path, forks: Forks) -> None:
    hub.repositories["me/ced"] = {"config.json": b'{"model_type": "ced"}', "model.safetensors": b"none"}
    result = forks.run(START, "onnx", "--model", "ast", "--checkpoint", "hub:me/ced", "--output", tmp_path)
    assert result.code == 4
    assert "says that the model is 'ced', expected the type of the model that --model names" in result.err
    assert hub.fetched == ["config.json"]
