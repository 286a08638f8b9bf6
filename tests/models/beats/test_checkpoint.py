"""Files of weights: their config, their order of classes, and what is refused."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from satexport.audio.labels import audioset_labels
from satexport.bundle.contract import GraphOptions
from satexport.errors import CheckpointError, UsageError
from satexport.models.beats.config import ONLY
from satexport.models.beats.family import reference
from satexport.models.beats.keys import PARAMETRIZED
from satexport.models.beats.variants import VARIANTS, find_model
from satexport.models.checkpoint import find_weights, load_checkpoint, recognize_variant
from satexport.models.families import check_options, find_variant
from satexport.pipeline.export import export_onnx
from satexport.tagging.tagger import load
from satexport.targets import find_target
from tests.commands.calls import call
from tests.models.beats.vectors import MIDS, ORDER, TINY, config, content, recorded, save, wave, weights
from tests.models.checkpoints import save_torch

pytestmark = pytest.mark.usefixtures("own_cache_folder", "one_thread")

SMALL = find_model(TINY)[1]
BIAS = "encoder.layers.1.self_attn.relative_attention_bias.weight"
LABELS = content()["label_dict"]
Entries = dict[Any, Any]


def model(**changes: torch.Tensor | None) -> Entries:
    return {key: value for key, value in (content()["model"] | changes).items() if value is not None}


def refused(path: Path, model: str = "beats") -> str:
    with pytest.raises(CheckpointError) as caught:
        load_checkpoint(str(path), find_variant(model, 1))
    return str(caught.value)


@pytest.mark.parametrize("labels", [LABELS, {str(key): mid for key, mid in LABELS.items()}],
                         ids=["numbers", "texts"])
def test_the_classes_of_a_file_get_the_order_of_audioset(labels: Entries, tmp_path: Path) -> None:
    loaded = load_checkpoint(str(save(tmp_path, label_dict=labels)), SMALL)
    assert loaded.state.keys() == weights().keys()
    for key, value in weights().items():
        np.testing.assert_array_equal(loaded.state[key], value)
        assert loaded.state[key].flags.c_contiguous
    assert loaded.labels[:2] == ("Speech", "Male speech, man speaking")
    assert not np.array_equal(content()["model"]["predictor.bias"], weights()["predictor.bias"])


@pytest.mark.parametrize(("labels", "words"), [
    (None, "has no label_dict; expected one that maps the numbers 0 to 526 to the MIDs"),
    ({}, "its label_dict has 0 labels"), ([*MIDS], "its label_dict is a list, not a dict; expected"),
    (LABELS | {3: "/m/nobody"}, "its label_dict maps 3 to '/m/nobody'"),
    (LABELS | {3: LABELS[4]}, "its label_dict has '.*' twice"),
    (LABELS | {3: "Speech"}, "its label_dict maps 3 to 'Speech'"),
    (LABELS | {3: 4}, "its label_dict maps 3 to 4;"), (LABELS | {"x": MIDS[0]}, "its label_dict maps 'x' to"),
    (LABELS | {-1: MIDS[0]}, "its label_dict maps -1 to"),
    ({key + 1: mid for key, mid in LABELS.items()}, "its label_dict has no label for 0; expected"),
    ({"4" if key == 3 else key: mid for key, mid in LABELS.items()}, "its label_dict has no label for 3;"),
    (dict(list(LABELS.items())[:-1]), "its label_dict has 526 labels"),
    ({"0" * (key == 0) + str(key): mid for key, mid in LABELS.items()} | {0: LABELS[0]}, "twice")],
    ids=range(13))
def test_labels_that_are_no_permutation_of_audiosets_are_refused(
        labels: Entries | None, words: str, tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match=words):
        load_checkpoint(str(save(tmp_path, label_dict=labels)), SMALL)


def test_another_number_of_classes_keeps_the_order_of_the_file_and_needs_labels(tmp_path: Path) -> None:
    rows = {f"predictor.{kind}": content()["model"][f"predictor.{kind}"][:5] for kind in ("weight", "bias")}
    path = save(tmp_path, cfg=config() | {"predictor_class": 5}, label_dict=None, model=model(**rows))
    assert "has 5 classes, names are known for AudioSet's 527: pass --labels FILE" in refused(path)
    names = tmp_path / "labels.txt"
    names.write_text("a\nb\nc\nd\ne\n", encoding="utf-8")
    loaded = load_checkpoint(str(path), SMALL, names)
    np.testing.assert_array_equal(loaded.state["predictor.bias"], rows["predictor.bias"])


def test_labels_of_the_user_must_have_the_order_into_which_the_classes_are_sorted(tmp_path: Path) -> None:
    path, names = save(tmp_path), tmp_path / "labels.txt"
    names.write_text("\n".join(audioset_labels()), encoding="utf-8")
    assert load_checkpoint(str(path), SMALL, names).labels == audioset_labels()
    names.write_text("\n".join(audioset_labels()[row] for row in ORDER), encoding="utf-8")  # as in the file
    result = call("onnx", "--checkpoint", path, "--labels", names, "--output", tmp_path / "build")
    assert result.code == 4
    words = " ".join(result.err.split())
    assert "does not have AudioSet's labels in AudioSet's order" in words
    assert "the 527 classes of w.pt are sorted into that order. Leave --labels out." in words


# The config.

def test_a_model_without_a_size_in_its_name_takes_that_of_the_file(tmp_path: Path) -> None:
    path = save(tmp_path)
    assert recognize_variant(str(path), 2).name == "beats-2s"
    loaded = load_checkpoint(str(path), find_variant("beats", 1, 10))  # `--model beats --delay 1 --window 10`
    assert loaded.variant == replace(find_model(TINY)[10], delay=1)
    message = refused(path, "beats-48x3x2x96")
    assert f"is not beats-48x3x2x96: its cfg is that of {TINY}; pass --model {TINY} --delay 1." in message


@pytest.mark.parametrize(("changes", "name"), [
    ({}, TINY), ({"max_distance": 1280}, "beats-embed32-distance1280-48x3x2x96"),
    ({"deep_norm": False}, "beats-embed32-plain-48x3x2x96"), ({"surprise": 5}, TINY)])
def test_the_config_of_a_file_names_its_model(changes: Entries, name: str, tmp_path: Path) -> None:
    found = load_checkpoint(str(save(tmp_path, cfg=config() | changes)), VARIANTS["beats", 2]).variant
    assert found == find_model(name)[2]
    assert find_variant(found.model, 2) == found


@pytest.mark.parametrize(("changes", "words"), [
    *(({key: 7}, f"its cfg has {key} = 7; expected {value!r}") for key, value in ONLY.items()),
    ({"conv_pos": torch.zeros(3)}, "its cfg has conv_pos = .*; expected 128"),
    ({"encoder_layers": "12"}, "its cfg has encoder_layers = '12'; expected int"),
    ({"encoder_layers": True}, "its cfg has encoder_layers = True; expected int"),
    ({"deep_norm": 1}, "its cfg has deep_norm = 1; expected bool"),
    ({"encoder_layers": 10**9}, "impossible: expected a depth from 1 to 24, not 1000000000"),
    ({"encoder_embed_dim": 40}, "a width that is a multiple of 16"),
    ({"max_distance": 80}, "buckets in a multiple of 4"), ({"num_buckets": 6}, "buckets in a multiple of 4"),
    ({"encoder_layers": 3}, "is missing.*These are not the weights that its cfg asks for"),
    ({"predictor_class": 9}, r"predictor.weight is \(527, 48\), expected \(9, 48\)")])
def test_a_config_that_the_published_models_do_not_have_is_refused(
        changes: Entries, words: str, tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match=words):
        load_checkpoint(str(save(tmp_path, cfg=config() | changes)), VARIANTS["beats", 2])


@pytest.mark.parametrize(("cfg", "words"), [
    (None, "has no cfg; expected a file as published, a dict with cfg, model and label_dict"),
    ([1], "its cfg is a list, not a dict; expected"), ({}, "its cfg has no embed_dim"),
    ({key: config()[key] for key in config() if key != "max_distance"}, "its cfg has no max_distance")],
    ids=range(4))
def test_a_file_without_its_config_is_refused(cfg: Any, words: str, tmp_path: Path) -> None:
    assert words in refused(save(tmp_path, cfg=cfg))


def test_a_safetensors_file_may_have_config_and_labels_as_json(tmp_path: Path) -> None:
    path = tmp_path / "w.safetensors"
    texts = {"cfg": json.dumps(config()), "label_dict": json.dumps(LABELS)}
    save_file(content()["model"], path, texts)
    loaded = load_checkpoint(str(path), VARIANTS["beats", 1])
    np.testing.assert_array_equal(loaded.state["predictor.bias"], weights()["predictor.bias"])
    for bad, found in (({}, "has no cfg"), ({"cfg": "{"}, "its cfg is not JSON"),
                       ({"cfg": "[" * 100_000}, "its cfg is not JSON")):
        save_file(content()["model"], path, texts | bad if bad else bad)
        assert f"{path}: {found}; expected" in refused(path)
        assert "as JSON in its metadata" in refused(path)
    save_file(content()["model"], path, texts | {"label_dict": "{oops"})
    assert f"{path}: its label_dict is not JSON; expected" in refused(path)


# The weights.

def test_names_of_newer_versions_of_pytorch_give_the_same_weights(tmp_path: Path) -> None:
    state = {PARAMETRIZED.get(key, key): value for key, value in model().items()}
    loaded = load_checkpoint(str(save(tmp_path, model=state)), SMALL)
    for key in PARAMETRIZED:
        np.testing.assert_array_equal(loaded.state[key], weights()[key])
    assert "original0 (1, 1, 128) is not expected" in refused(save(tmp_path, model=state | model()))


@pytest.mark.parametrize(("change", "words"), [
    (lambda s: s | {"extra": torch.zeros(2)}, "extra (2,) is not expected. It has all weights, and 1 more"),
    (lambda s: {k: v for k, v in s.items() if k != "encoder.layers.1.fc1.bias"}, "fc1.bias (96,) is missing"),
    (lambda s: s | {"layer_norm.bias": torch.zeros(7)}, "layer_norm.bias is (7,), expected (32,)"),
    (lambda s: s | {"layer_norm.bias": torch.full((32,), torch.nan)}, "has NaN or infinite values"),
    (lambda s: s | {BIAS: 2 * s[BIAS]}, f"{BIAS} differs from encoder.layers.0.self_attn.relative_att"),
    (lambda s: {f"net.{k}": v for k, v in s.items()}, "start with 'net.': save `model` again without that,")],
    ids=range(6))
def test_a_file_is_read_strictly(change: Callable[[Entries], Entries], words: str, tmp_path: Path) -> None:
    assert words in refused(save(tmp_path, model=change(model())))


@pytest.mark.parametrize("changes", [
    {}, {"label_dict": None}, {"cfg": config() | {"finetuned_model": False}}], ids=range(3))
def test_a_pre_trained_model_is_refused_with_the_name_of_a_fine_tuned_one(
        changes: Entries, tmp_path: Path) -> None:
    path = save(tmp_path, model=model(**{"predictor.weight": None, "predictor.bias": None}), **changes)
    assert "is a pre-trained BEATs, or its tokenizer, without a predictor, which gives no" in refused(path)
    result = call("onnx", "--checkpoint", path, "--output", tmp_path / "build")
    assert (result.code, "BEATs_iter3_plus_AS2M_finetuned_on_AS2M_cpt2.pt" in result.err) == (4, True)


def test_a_file_of_another_family_is_recognised(tmp_path: Path) -> None:
    path = save_torch(tmp_path / "w.pt", {k: torch.from_numpy(v) for k, v in load_checkpoint(
        "random", find_variant("sat-t", 2)).state.items()})
    assert "This looks like sat-t at 2 s" in refused(path)
    with pytest.raises(CheckpointError, match="looks like beats at 2 s: pass --model beats --delay 2"):
        load_checkpoint(str(save(tmp_path)), find_variant("sat-t", 2))


def test_a_bundle_is_made_of_a_file_and_held_against_it(tmp_path: Path) -> None:
    path = export_onnx(load_checkpoint(str(save(tmp_path)), VARIANTS["beats", 1]), find_target("onnx"),
                       tmp_path, use_onnxsim=False).path
    tagger = load(path)
    assert tagger.contract.variant == f"{TINY}-1s"
    found = tagger.stream().feed(wave(1)[0])
    np.testing.assert_allclose(found[0], recorded(1)["scores"][0], rtol=0, atol=1e-5)
    expected = reference(find_weights(tagger.bundle))(wave(1), None)[0].scores  # type: ignore[arg-type]
    np.testing.assert_allclose(found, expected, rtol=0, atol=1e-5)


# Names of models and of public files.

@pytest.mark.parametrize(("name", "canonical"), [
    ("beats-768x12x12", "beats"), ("beats-embed512-distance800-768x12x12x3072", "beats"),
    ("beats-buckets64-48x3x2x192", "beats-buckets64-48x3x2"), ("beats-plain", "beats-plain")])
def test_each_graph_has_one_name(name: str, canonical: str) -> None:
    assert find_variant(name, 1).name == f"{canonical}-1s"


@pytest.mark.parametrize(("model", "words"), [
    ("beats-48x5x2", "a width that is a multiple of 16 and of the number of heads"),
    ("beats-2048x16x2", "a width from 1 to 1024"), ("beats-48x3x99", "a depth from 1 to 24"),
    ("beats-embed2000", "a length of a patch from 1 to 1024"),
    ("beats-distance9999", "a largest distance from 1 to 4096"),
    ("beats-buckets9999", "a number of buckets from 1 to 4096"),
    ("beats-48x3x2x9999", "a number of hidden units from 1 to 8192"),
    ("beats-48x3", "unknown model"), ("beats-plain-embed32", "unknown model")])
def test_impossible_models_are_wrong_use(model: str, words: str) -> None:
    with pytest.raises(UsageError, match=words):
        find_variant(model, 1)


def test_a_model_has_the_delays_of_the_papers_and_no_cache() -> None:
    with pytest.raises(UsageError, match="has no delay of 20 s; it has 1, 2, 5, 10"):
        find_variant("beats", 20)
    with pytest.raises(UsageError, match="beats-1s has no cache: leave --cache out"):
        check_options(VARIANTS["beats", 1], GraphOptions(cache="hidden"))


def test_a_public_file_must_be_fetched_by_hand_and_may_have_a_size_of_its_own(tmp_path: Path) -> None:
    file = "BEATs_iter3_plus_AS2M_finetuned_on_AS2M_cpt2.pt"
    with pytest.raises(CheckpointError) as caught:
        load_checkpoint("published", VARIANTS["beats", 10])
    place = tmp_path / "cache" / "published"
    assert (f"{file} has no direct address: fetch it from https://github.com/microsoft/unilm/tree/master/"
            f"beats and put it at {place / file}") in str(caught.value)
    place.mkdir(parents=True)
    save(place).rename(place / file)
    assert load_checkpoint("published", VARIANTS["beats", 10]).variant == find_model(TINY)[10]
