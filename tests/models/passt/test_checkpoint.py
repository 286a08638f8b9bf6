"""Files of weights: prefixes, models from shapes and names, and what is refused."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from satexport.bundle.contract import GraphOptions
from satexport.errors import CheckpointError, UsageError
from satexport.models.checkpoint import load_checkpoint, recognize_variant
from satexport.models.families import check_options, find_variant
from satexport.models.family import State
from satexport.models.passt.published import PUBLISHED
from satexport.models.passt.variants import VARIANTS, find_model
from tests.commands.calls import call
from tests.models.checkpoints import save_torch
from tests.models.passt.vectors import SIZE, TINY, hollow, published_names, save

pytestmark = pytest.mark.usefixtures("own_cache_folder", "one_thread")

SMALL = find_model(TINY)[1]
ALIKE = ["passt-s10-20sec", "passt-s10-stfthop160"]
HEADS = "The shapes of a PaSST do not show its number of heads: make sure that this one has 3."


def under(prefix: str, change: float = 0) -> State:
    return {prefix + key: value + np.float32(change) for key, value in published_names().items()}


@pytest.mark.parametrize("prefix", ["", "net.", "net_swa."])
def test_the_weights_are_read_with_and_without_a_prefix_and_the_second_head_is_ignored(
        prefix: str, tmp_path: Path) -> None:
    loaded = load_checkpoint(str(save(tmp_path, under(prefix))), SMALL)
    expected = published_names()
    assert expected.keys() - loaded.state.keys() == {"head_dist.weight", "head_dist.bias"}
    for key, value in loaded.state.items():
        np.testing.assert_array_equal(value, expected[key])
        assert value.flags.c_contiguous
    assert loaded.caution == HEADS[0].lower() + HEADS[1:]


def test_of_a_training_checkpoint_the_averaged_weights_are_used(tmp_path: Path) -> None:
    path = save(tmp_path, under("net.", 1) | under("net_swa."))
    loaded = load_checkpoint(str(path), SMALL)
    np.testing.assert_array_equal(loaded.state["norm.bias"], published_names()["norm.bias"])
    assert loaded.caution == ("the file has weights under net_swa. and net.: those under net_swa., averaged "
                              f"over the training, are used. {HEADS}")


def test_a_file_without_the_second_head_loads(tmp_path: Path) -> None:
    state = {key: value for key, value in published_names().items() if "head_dist" not in key}
    assert load_checkpoint(str(save(tmp_path, state)), SMALL).classes == 527


@pytest.mark.parametrize("prefix", ["", "net_swa."])
@pytest.mark.parametrize(("change", "words"), [
    (lambda state, key: state | {"extra": np.zeros(2, np.float32)}, r"extra \(2,\) is not exp.*Save only"),
    (lambda state, key: {k: v for k, v in state.items() if k != key}, "is missing.*incomplete"),
    (lambda state, key: state | {key: np.zeros((7, 3), np.float32)}, r"is \(7, 3\), expected \(48, 192\)"),
    (lambda state, key: state | {key: np.full((48, 192), np.nan, np.float32)}, "has NaN or infinite values"),
    (lambda state, key: {f"model.{k}": v for k, v in state.items()},
     r"start with 'model\..*k\.removeprefix\('model\.")], ids=range(5))
def test_a_file_is_read_strictly(
        prefix: str, change: Callable[[State, str], State], words: str, tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match=words):
        load_checkpoint(str(save(tmp_path, change(under(prefix), f"{prefix}blocks.0.mlp.fc2.weight"))), SMALL)


def test_the_code_that_removes_surplus_entries_works_as_printed(
        tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = save(tmp_path, under("net_swa.") | {"net_swa.extra": np.zeros(2, np.float32)})
    with pytest.raises(CheckpointError, match="1 more entries") as caught:
        load_checkpoint(str(path), SMALL)
    monkeypatch.chdir(tmp_path)
    exec(str(caught.value).partition("Save only what is needed: ")[2], {})
    assert load_checkpoint("weights.safetensors", SMALL).classes == 527


# Which model a file is.

@pytest.mark.parametrize("model", dict.fromkeys(model for model, _ in VARIANTS if model not in ALIKE))
def test_the_tables_and_the_number_of_blocks_tell_the_model(model: str, tmp_path: Path) -> None:
    path = save_torch(tmp_path / "w.pt", hollow(model))
    assert recognize_variant(str(path), 10) == VARIANTS[model, 10]
    assert recognize_variant(str(path), 1, 10) == replace(VARIANTS[model, 10], delay=1)
    assert load_checkpoint(str(path), VARIANTS[model, 10]).caution == ""


@pytest.mark.parametrize("model", ALIKE)
def test_models_with_the_same_tables_are_told_by_the_name_of_the_file_or_by_the_user(
        model: str, tmp_path: Path) -> None:
    path = save_torch(tmp_path / "w.pt", hollow(model))
    with pytest.raises(UsageError, match=f"could be a checkpoint of {' or of '.join(ALIKE)}: say which with"):
        recognize_variant(str(path))
    assert "have the same shapes: make sure" in load_checkpoint(str(path), VARIANTS[model, 10]).caution
    named = path.rename(tmp_path / PUBLISHED[f"{model}-10s"][0].file)
    assert recognize_variant(str(named)).model == model
    assert load_checkpoint(str(named), VARIANTS[model, 10]).caution == ""
    other = ALIKE[1 - ALIKE.index(model)]
    with pytest.raises(CheckpointError, match=f"has the name of a published checkpoint of {model}, not of"):
        load_checkpoint(str(named), VARIANTS[other, 10])


@pytest.mark.parametrize("model", ALIKE)
def test_models_of_another_size_with_the_same_tables_are_not_told_apart(model: str, tmp_path: Path) -> None:
    path = save_torch(tmp_path / "w.pt", hollow(f"{model}-{SIZE}"))
    other = ALIKE[1 - ALIKE.index(model)]
    assert load_checkpoint(str(path), find_model(f"{model}-{SIZE}")[2]).caution == (
        f"checkpoints of {model}-{SIZE} and of {other}-{SIZE} have the same shapes: make sure that this one "
        f"is {model}-{SIZE}, because another front end gives other scores. {HEADS}")
    names = " or ".join(f"{alike}-48xHEADSx2x192" for alike in ALIKE)
    with pytest.raises(CheckpointError) as caught:
        load_checkpoint(str(path), VARIANTS["passt-s10", 2])
    assert f"pass --model {names} (the shapes do not tell which) with that number" in str(caught.value)


def test_a_file_of_which_the_shapes_do_not_tell_the_model_is_wrong_use_without_a_name(tmp_path: Path) -> None:
    path = save_torch(tmp_path / "w.pt", hollow(ALIKE[0]))
    result = call("onnx", "--checkpoint", path, "--output", tmp_path / "build")
    assert (result.code, "say which with --model" in result.err) == (2, True)


def test_a_file_of_another_size_needs_a_name_with_its_heads(tmp_path: Path) -> None:
    path = save(tmp_path, published_names())
    words = r"a PaSST of width 48 with 2 blocks.*pass --model passt-s10-48xHEADSx2x192 with"
    with pytest.raises(CheckpointError, match=words):
        load_checkpoint(str(path), VARIANTS["passt-s10", 2])


@pytest.mark.parametrize(("key", "shape", "words"), [
    ("time_new_pos_embed", (1, 48, 1, 63), "have 12 rows and 63 columns, which is not supported; expected 12 "
     "and 99 or 10 and 83 or"),
    ("freq_new_pos_embed", (1, 48, 9, 1), "have 9 rows and 99 columns")])
def test_tables_for_other_audio_are_refused(
        key: str, shape: tuple[int, ...], words: str, tmp_path: Path) -> None:
    path = save(tmp_path, published_names() | {key: np.zeros(shape, np.float32)})
    with pytest.raises(CheckpointError, match=words):
        load_checkpoint(str(path), SMALL)
    result = call("onnx", "--checkpoint", path, "--output", tmp_path / "build")
    assert (result.code, "is a PaSST for other audio" in result.err) == (4, True)


def test_a_model_without_a_head_is_refused(tmp_path: Path) -> None:
    state = {key: value for key, value in published_names().items() if not key.startswith("head")}
    with pytest.raises(CheckpointError, match="is a PaSST without a head, which gives no scores"):
        load_checkpoint(str(save(tmp_path, state)), SMALL)


def test_a_file_of_another_family_is_recognised(tmp_path: Path) -> None:
    sat = save(tmp_path, load_checkpoint("random", find_variant("sat-t", 2)).state, "sat")
    with pytest.raises(CheckpointError, match=r"is not passt-s10 at 2 s\. This looks like sat-t at 2 s"):
        load_checkpoint(str(sat), VARIANTS["passt-s10", 2])
    path = save_torch(tmp_path / "w.pt", hollow("passt-s14"))
    with pytest.raises(CheckpointError, match="looks like passt-s14 at 2 s: pass --model passt-s14"):
        load_checkpoint(str(path), find_variant("sat-t", 2))
    with pytest.raises(CheckpointError, match=r"looks like passt-s14 at .*: pass --model passt-s14"):
        load_checkpoint(str(path), find_variant("passt-s16", 2))


@pytest.mark.parametrize(("model", "words"), [
    ("passt-s10-48x5x2", "a width up to 1024 that is a multiple"),
    ("passt-s10-48x3x99", "a depth from 1 to 24"), ("passt-s10-48x3x2x0", "MLPs of 1 to"),
    ("passt-s16-20sec", "unknown model"), ("passt-l-48x3x2", "unknown model")])
def test_impossible_models_are_wrong_use(model: str, words: str) -> None:
    with pytest.raises(UsageError, match=words):
        find_variant(model, 1)


@pytest.mark.parametrize(("model", "option", "seconds", "lengths"), [
    ("passt-s10", "--delay", 20, "1, 2, 5, 10"), ("passt-s16", "--window", 30, "1, 2, 5, 10"),
    ("passt-s10-20sec", "--delay", 30, "1, 2, 5, 10, 20"), ("passt-l", "--delay", 11, "1, 2, 5, 10")])
def test_a_chunk_that_is_longer_than_the_table_is_wrong_use(
        model: str, option: str, seconds: int, lengths: str) -> None:
    result = call("onnx", "--model", model, option, seconds, "--checkpoint", "random")
    assert result.code == 2
    assert f"{model} has no {option[2:]} of {seconds} s; it has {lengths}." in result.err


def test_a_model_without_a_state_has_no_cache() -> None:
    with pytest.raises(UsageError, match="passt-s10-1s has no cache: leave --cache out"):
        check_options(VARIANTS["passt-s10", 1], GraphOptions(cache="hidden"))


RELEASES = {  # release -> model -> files
    "v.0.0.9": {"passt-s10": ["passt-s-kd-ap.486.pt"]}, "v.0.0.10": {"passt-l": ["passt-l-kd-ap.47.pt"]},
    "v0.0.1-audioset": {"passt-s10": ["passt-s-f128-p16-s10-ap.476-swa.pt"]},
    "v0.0.2-audioset": {
        "passt-s10": ["passt-s-f128-p16-s10-ap.4761-swa.pt", "passt-s-f128-p16-s10-ap.472.pt"],
        "passt-s12": ["passt-s-f128-p16-s12-ap.473-swa.pt", "passt-s-f128-p16-s12-ap.470.pt"],
        "passt-s14": ["passt-s-f128-p16-s14-ap.471-swa.pt", "passt-s-f128-p16-s14-ap.469.pt"],
        "passt-s16": ["passt-s-f128-p16-s16-ap.473-swa.pt", "passt-s-f128-p16-s16-ap.468.pt"]},
    "v0.0.3-audioset": {"passt-s10-stfthop100": ["passt-s-f128-stfthop100-p16-s10-ap.473-swa.pt"],
                        "passt-s10-stfthop160": ["passt-s-f128-stfthop160-p16-s10-ap.473-swa.pt"]},
    "v0.0.5": {"passt-s10-20sec": ["passt-s-f128-20sec-p16-s10-ap.474-swa.pt"],
               "passt-s10-30sec": ["passt-s-f128-30sec-p16-s10-ap.473-swa.pt"]}}


def test_public_files_have_the_addresses_of_their_releases() -> None:
    expected = {(model, f"https://github.com/kkoutini/PaSST/releases/download/{release}/{file}")
                for release, models in RELEASES.items() for model, files in models.items() for file in files}
    assert len(expected) == 15
    assert expected == {(variant.model, file.url) for variant in VARIANTS.values()
                        for file in PUBLISHED[variant.chunk_name]}
    recommended = {model: PUBLISHED[f"{model}-1s"][0].file for model, _ in VARIANTS}
    assert (recommended["passt-s10"], recommended["passt-s16"]) == (
        "passt-s-kd-ap.486.pt", "passt-s-f128-p16-s16-ap.473-swa.pt")
