"""Files of weights: read strictly, recognised by shapes and name, refused by name."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from satexport.errors import CheckpointError, UsageError
from satexport.models.checkpoint import load_checkpoint, recognize_variant
from satexport.models.efficientat import family
from satexport.models.efficientat.keys import expected_shapes
from satexport.models.efficientat.network import MobileNet
from satexport.models.efficientat.published import PUBLISHED
from satexport.models.efficientat.variants import VARIANTS, WIDTHS, Variant, find_model
from satexport.models.families import find_variant
from tests.models.checkpoints import (
    Save,
    State,
    both_formats,
    refusal,
    renamed,
    save_safetensors,
    save_torch,
)

pytestmark = pytest.mark.usefixtures("own_cache_folder", "one_thread")

MN01 = find_model("mn01")[1]
NORM = "features.5.block.1.1"
SQUEEZE = "features.5.block.2.conc_se_layers.0.fc1.weight"
SAME_SHAPES = ["mn10", *(f"mn10-hop-{ms}" for ms in (5, 15, 20, 25)),
               *(f"mn10-mels-{bands}" for bands in (40, 64, 256))]
FC = ["mn10-fc", "mn10-fc-s2221", "mn10-fc-s2211"]


def state_of(variant: Variant, classes: int = 527) -> State:
    return dict(MobileNet(variant, classes).state_dict())


def hollow(model: str) -> State:
    """Return the state dict of a model with all weights zero: a small file with the right shapes."""
    with torch.device("meta"):
        state = MobileNet(find_model(model)[1]).state_dict()
    return {key: torch.zeros(()).expand(value.shape) for key, value in state.items()}


@pytest.fixture
def mn01() -> State:
    return state_of(MN01)


# Checkpoints that load.

@pytest.mark.parametrize("variant", [v for v in VARIANTS.values() if v.delay == 1], ids=lambda v: v.model)
def test_expected_shapes_are_those_of_the_model(variant: Variant) -> None:
    with torch.device("meta"):
        network = MobileNet(variant, 7)
    shapes = {key: tuple(value.shape) for key, value in network.state_dict().items()
              if not key.endswith("num_batches_tracked")}
    assert expected_shapes(variant, 7) == shapes
    assert family.count_parameters(variant, 7) == sum(value.numel() for value in network.parameters())


@both_formats
def test_a_state_dict_loads_value_for_value(save: Save, mn01: State, tmp_path: Path) -> None:
    loaded = load_checkpoint(str(save(tmp_path / "w.pt", mn01)), MN01)
    assert loaded.state.keys() == {key for key in mn01 if not key.endswith("num_batches_tracked")}
    for key, value in loaded.state.items():
        assert value.dtype == np.float32
        assert value.flags.c_contiguous
        np.testing.assert_array_equal(value, mn01[key].numpy())
    assert (loaded.classes, loaded.caution) == (527, "")


def test_a_file_without_counters_or_with_another_head_loads(mn01: State, tmp_path: Path) -> None:
    plain = {key: value for key, value in mn01.items() if not key.endswith("num_batches_tracked")}
    save_torch(tmp_path / "plain.pt", plain)
    assert load_checkpoint(str(tmp_path / "plain.pt"), MN01).classes == 527
    save_torch(tmp_path / "fifty.pt", state_of(MN01, 50))
    (tmp_path / "labels.txt").write_text("\n".join(f"class {n}" for n in range(50)), encoding="utf-8")
    assert load_checkpoint(str(tmp_path / "fifty.pt"), MN01, tmp_path / "labels.txt").classes == 50


@pytest.mark.parametrize("model", [name for name in WIDTHS if name != "mn10"])
def test_the_width_follows_from_the_shapes(model: str, tmp_path: Path) -> None:
    save_torch(tmp_path / "w.pt", hollow(model))
    assert recognize_variant(str(tmp_path / "w.pt")) == find_model(model)[2]
    assert recognize_variant(str(tmp_path / "w.pt"), 10) == find_model(model)[10]


@pytest.mark.parametrize("models", [SAME_SHAPES, FC], ids=["mlp", "fc"])
def test_what_the_shapes_do_not_show_is_asked_for(models: list[str], tmp_path: Path) -> None:
    save_torch(tmp_path / "w.pt", hollow(models[0]))
    with pytest.raises(UsageError, match=f"could be a checkpoint of {' or of '.join(models)}: say which"):
        recognize_variant(str(tmp_path / "w.pt"))
    for model in models[:2]:
        caution = load_checkpoint(str(tmp_path / "w.pt"), find_model(model)[1]).caution
        assert f"checkpoints of {model} and of" in caution
        assert f"make sure that this one is {model}" in caution


@pytest.mark.parametrize(("file", "model"), [
    ("mn10_as_mAP_471.pt", "mn10"), ("mn10_as_hop_15_mAP_463.pt", "mn10-hop-15"),
    ("mn10_as_mels_256_mAP_474.pt", "mn10-mels-256"), ("mn10_as_fc_s2221_mAP_466.pt", "mn10-fc-s2221"),
    ("mn10_as_fc_s2211_mAP_466.pt", "mn10-fc-s2211"), ("mn40_as_no_im_pre_mAP_483(2).pt", "mn40")])
def test_the_published_name_of_a_file_tells_its_model(file: str, model: str, tmp_path: Path) -> None:
    save_torch(tmp_path / file, hollow(model))
    assert recognize_variant(str(tmp_path / file)).model == model
    assert load_checkpoint(str(tmp_path / file), find_model(model)[1]).caution == ""


def test_every_published_file_is_named_and_has_an_address() -> None:
    files = {published for variants in PUBLISHED.values() for published in variants}
    assert len(files) == 26
    assert {variant.name for variant in VARIANTS.values()} == set(PUBLISHED)
    assert all(file.licence == "MIT" and file.url and file.url.endswith(f"/v0.0.1/{file.file}")
               for file in files)
    assert [file.file for file in files if file.sha256] == ["mn04_as_mAP_432.pt"]
    assert PUBLISHED["mn40-2s"][0].file == "mn40_as_mAP_484.pt"


# Files that are refused.

def test_a_missing_a_surplus_and_a_misshaped_entry_are_named(mn01: State, tmp_path: Path) -> None:
    del mn01[f"{NORM}.bias"]
    mn01["features.5.extra"] = torch.zeros(3)
    mn01[SQUEEZE] = torch.zeros(9, 16)
    message = refusal(save_torch(tmp_path / "w.pt", mn01), MN01)
    assert f"{NORM}.bias (16,) is missing" in message
    assert "features.5.extra (3,) is not expected" in message
    assert f"{SQUEEZE} is (9, 16), expected (8, 16)" in message
    assert "the file is incomplete or was changed" in message


def test_surplus_entries_and_a_prefix_come_with_code_that_removes_them(mn01: State, tmp_path: Path) -> None:
    surplus = refusal(save_torch(tmp_path / "w.pt", mn01 | {"mel.window": torch.zeros(800)}), MN01)
    assert "It has all weights of a mn01, and 1 more entries. Save only what is needed" in surplus
    wrapped = refusal(save_torch(tmp_path / "w.pt", renamed(mn01, "net.")), MN01)
    assert "Its weight names start with 'net.'" in wrapped
    code = wrapped.partition("Save only what is needed: ")[2]
    program = code.replace("'weights.pt'", repr(str(tmp_path / "weights.pt")))
    exec(program, {})
    assert load_checkpoint(str(tmp_path / "weights.pt"), MN01).classes == 527


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_values_that_are_not_finite_are_refused(value: float, mn01: State, tmp_path: Path) -> None:
    mn01[f"{NORM}.running_mean"][3] = value
    assert "has NaN or infinite values" in refusal(save_torch(tmp_path / "w.pt", mn01), MN01)


def test_a_negative_variance_is_refused(mn01: State, tmp_path: Path) -> None:
    mn01[f"{NORM}.running_var"][3] = -1e-3
    message = refusal(save_torch(tmp_path / "w.pt", mn01), MN01)
    assert f"{NORM}.running_var has negative values, expected variances" in message


def test_another_width_is_recognised(tmp_path: Path) -> None:
    message = refusal(save_torch(tmp_path / "w.pt", hollow("mn02")), MN01)
    assert "is not mn01 at 1 s" in message
    assert "This looks like mn02 at" in message
    assert "pass --model mn02 --delay 1" in message


def test_a_width_that_no_mobilenet_has_is_refused(tmp_path: Path) -> None:
    state = hollow("mn01")
    state["features.16.0.weight"] = torch.zeros(576, 96, 1, 1)
    message = refusal(save_torch(tmp_path / "w.pt", state), MN01)
    assert "has a last convolution with 576 channels, as no MobileNet of EfficientAT" in message
    assert "96 (mn01), 192 (mn02), 384 (mn04)" in message
    with pytest.raises(CheckpointError, match="576 channels"):
        recognize_variant(str(tmp_path / "w.pt"))


@pytest.mark.parametrize(("file", "reason"), [
    ("dymn10_as.pt", "is a DyMN, a dynamic MobileNet, which is not supported"),
    ("dymn04_im.pt", "is a DyMN"),
    ("mn10_im.pt", "was trained on ImageNet only, its head for AudioSet is untrained"),
    ("mn40_im_ext.pt", "was trained on ImageNet only")])
def test_files_that_cannot_tag_are_refused_by_name(file: str, reason: str, mn01: State,
                                                   tmp_path: Path) -> None:
    message = refusal(save_torch(tmp_path / file, mn01), MN01)
    assert reason in message
    assert "expected a MobileNet with _as in its name, such as mn10_as_mAP_471.pt" in message


def test_a_published_name_of_another_model_is_refused(tmp_path: Path) -> None:
    path = save_torch(tmp_path / "mn10_as_hop_5_mAP_475.pt", hollow("mn10"))
    message = refusal(path, find_model("mn10")[1])
    assert "has the name of a published checkpoint of mn10-hop-5, not of mn10" in message


def test_a_file_of_another_family_is_named_both_ways(mn01: State, tmp_path: Path) -> None:
    path = save_safetensors(tmp_path / "mn.safetensors", mn01)
    assert "This looks like mn01 at" in refusal(path, find_variant("sat-t", 2))
    sat = load_checkpoint("random", find_variant("sat-t-48x3x2", 2)).state
    path = save_torch(tmp_path / "sat.pt", {key: torch.from_numpy(value) for key, value in sat.items()})
    assert "is not mn01 at 1 s" in refusal(path, MN01)
