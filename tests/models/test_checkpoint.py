"""Checkpoints that load, and the errors for checkpoints of another model."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from satexport.audio.labels import audioset_labels
from satexport.errors import CheckpointError, DataError, UsageError
from satexport.files import sha256_of
from satexport.models import weightfile as checkpoint_file
from satexport.models.checkpoint import load_checkpoint
from satexport.models.sat import family, keys
from satexport.models.sat.keys import expected_shapes
from satexport.models.sat.network import Transformer
from satexport.models.sat.variants import LOG_MEL, VARIANTS, Variant, find_model
from tests.models.checkpoints import (
    COUNTER,
    SAT_T,
    WEIGHT,
    Save,
    State,
    both_formats,
    hollow,
    refusal,
    save_safetensors,
    save_torch,
)

pytestmark = pytest.mark.usefixtures("own_cache_folder", "one_thread")

# Checkpoints that load.

@pytest.mark.parametrize("variant", VARIANTS.values(), ids=lambda v: v.name)
def test_expected_shapes_are_those_of_the_model(variant: Variant) -> None:
    with torch.device("meta"):
        state = Transformer(variant, 7).state_dict()
    shapes = {key: tuple(value.shape) for key, value in state.items() if key != COUNTER}
    assert expected_shapes(variant, 7) == shapes


@both_formats
def test_a_state_dict_loads_value_for_value(save: Save, sat_t: State, tmp_path: Path) -> None:
    loaded = load_checkpoint(str(save(tmp_path / "w.pt", sat_t)), SAT_T)
    assert loaded.state.keys() == sat_t.keys() - {COUNTER}
    for key, value in loaded.state.items():
        assert value.dtype == np.float32
        assert value.flags.c_contiguous
        np.testing.assert_array_equal(value, sat_t[key].numpy())
    assert (loaded.source, loaded.name, loaded.dtype) == ("file", "w.pt", "float32")
    assert loaded.source == "file"
    assert (loaded.classes, loaded.labels) == (527, audioset_labels())
    assert loaded.sha256 == sha256_of(tmp_path / "w.pt")


def test_a_loaded_state_fits_the_model_strictly(sat_t: State, tmp_path: Path) -> None:
    loaded = load_checkpoint(str(save_torch(tmp_path / "w.pt", sat_t)), SAT_T)
    Transformer(SAT_T).load_state_dict(
        {key: torch.from_numpy(value) for key, value in loaded.state.items()}, strict=True)


def test_the_entry_model_of_a_training_checkpoint_loads(sat_t: State, tmp_path: Path) -> None:
    content = {"config": {"lr": 1e-3, "name": "run"}, "epoch": 3, "model": sat_t}
    loaded = load_checkpoint(str(save_torch(tmp_path / "run.pth", content)), SAT_T)
    np.testing.assert_array_equal(loaded.state[WEIGHT], sat_t[WEIGHT].numpy())


def test_the_content_of_a_file_decides_and_not_its_ending(sat_t: State, tmp_path: Path) -> None:
    for path in (save_safetensors(tmp_path / "w.pt", sat_t),
                 save_torch(tmp_path / "w.safetensors", sat_t)):
        assert load_checkpoint(str(path), SAT_T).classes == 527


def test_a_file_of_torch_before_1_6_loads(sat_t: State, tmp_path: Path) -> None:
    torch.save(sat_t, tmp_path / "old.pt", _use_new_zipfile_serialization=False)
    loaded = load_checkpoint(str(tmp_path / "old.pt"), SAT_T)
    np.testing.assert_array_equal(loaded.state[WEIGHT], sat_t[WEIGHT].numpy())


@both_formats
def test_half_precision_becomes_float32_and_is_named(
        save: Save, sat_t: State, tmp_path: Path) -> None:
    half = {key: value if key == "norm.bias" else value.half() for key, value in sat_t.items()}
    loaded = load_checkpoint(str(save(tmp_path / "half.pt", half)), SAT_T)
    assert loaded.dtype == "float16"
    np.testing.assert_array_equal(loaded.state[WEIGHT], half[WEIGHT].float().numpy())
    np.testing.assert_array_equal(loaded.state["front_end.0.mel_scale.fb"],
                                  LOG_MEL.filters().astype(np.float32))


def test_the_counter_of_batches_may_be_missing(sat_t: State, tmp_path: Path) -> None:
    state = {key: value for key, value in sat_t.items() if key != COUNTER}
    assert load_checkpoint(str(save_torch(tmp_path / "w.pt", state)), SAT_T).classes == 527


def test_safetensors_and_random_weights_load_without_torch(sat_t: State, tmp_path: Path) -> None:
    path = save_safetensors(tmp_path / "w.safetensors", sat_t)
    code = ("import sys; sys.modules['torch'] = None\n"
            "from satexport.models.checkpoint import load_checkpoint\n"
            "from satexport.models.families import find_variant\n"
            f"for what in (r'{path}', 'random'): load_checkpoint(what, find_variant('sat-t', 2))")
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_sat_s_loads_at_either_delay(tmp_path: Path) -> None:
    path = save_torch(tmp_path / "s.pt", hollow(find_model("sat-s")[1]))
    for delay in (1, 2):
        loaded = load_checkpoint(str(path), find_model("sat-s")[delay])
        assert loaded.state["time_pos_embed"].shape == (1, 384, 1, 24)


@pytest.mark.parametrize("columns", [1, 12, 62, 63, 64, 101])
def test_the_time_code_of_a_vit_is_cut_or_resized_as_published(
        columns: int, tmp_path: Path) -> None:
    variant = find_model("vit-t")[10]
    code = torch.randn(1, 192, 1, columns)
    path = save_torch(tmp_path / "v.pt", hollow(variant) | {"time_pos_embed": code})
    loaded = load_checkpoint(str(path), variant).state["time_pos_embed"]
    expected = code[..., :63] if columns >= 63 else torch.nn.functional.interpolate(
        code, size=(1, 63), mode="bilinear", align_corners=False)
    np.testing.assert_allclose(loaded, expected.numpy(), atol=2e-5)


# Labels.

def test_another_number_of_classes_needs_a_labels_file(tmp_path: Path) -> None:
    path = save_torch(tmp_path / "w.pt", hollow(SAT_T, classes=3))
    assert refusal(path).endswith("names are known for AudioSet's 527: "
                                  "pass --labels FILE with 3 lines.")
    names = tmp_path / "names.txt"
    names.write_text("dog\ncat\nrain\n")
    loaded = load_checkpoint(str(path), SAT_T, labels=names)
    assert (loaded.classes, loaded.labels) == (3, ("dog", "cat", "rain"))
    names.write_text("dog\ncat\n")
    with pytest.raises(DataError, match=r"has 2 labels, w\.pt has 3 classes"):
        load_checkpoint(str(path), SAT_T, labels=names)


def test_random_weights_take_the_classes_of_a_labels_file(tmp_path: Path) -> None:
    names = tmp_path / "names.txt"
    names.write_text("dog\ncat\n")
    loaded = load_checkpoint("random", SAT_T, labels=names)
    assert loaded.state["outputlayer.1.weight"].shape == (2, 192)
    assert loaded.labels == ("dog", "cat")


# Checkpoints of another model than the chosen one.

@pytest.mark.parametrize(("actual", "chosen", "advice"), [
    (("sat-s", 2), ("sat-t", 2), "sat-s at 1 s or 2 s (the shapes do not tell which): pass"),
    (("sat-s", 2), ("sat-b", 2), "pass --model sat-s --delay 2."),
    (("sat-s", 2), ("sat-t", 1), "pass --model sat-s --delay 1."),
    (("sat-t", 2), ("sat-s", 2), "sat-t at 2 s: pass --model sat-t --delay 2."),
    (("sat-t", 1), ("sat-t", 2), "sat-t at 1 s: pass --model sat-t --delay 1."),
    (("sat-t", 2), ("sat-t", 1), "sat-t at 2 s: pass --model sat-t --delay 2."),
    (("sat-t", 1), ("vit-t", 10), "sat-t at 1 s: pass --model sat-t --delay 1."),
    (("vit-t", 10), ("sat-t", 2), "pass --model vit-t --delay 2."),
    (("vit-s", 10), ("vit-t", 10), "pass --model vit-s --delay 10."),
])
def test_a_file_of_another_variant_is_recognised(
        actual: tuple[str, int], chosen: tuple[str, int], advice: str, tmp_path: Path) -> None:
    path = save_torch(tmp_path / "w.pt", hollow(VARIANTS[actual]))
    assert advice in refusal(path, VARIANTS[chosen])


def test_a_wrong_delay_is_recognised_by_the_width_of_the_time_code(tmp_path: Path) -> None:
    path = save_torch(tmp_path / "w.pt", hollow(find_model("sat-t")[1]))
    assert ("is not sat-t at 2 s: time_pos_embed is (1, 192, 1, 12), expected (1, 192, 1, 24). "
            "This looks like sat-t at 1 s") in refusal(path)


def test_the_error_for_an_unknown_architecture_says_that_it_is_not_a_sat_vit_or_ced(tmp_path: Path) -> None:
    message = refusal(save_torch(tmp_path / "w.pt", {"conv1.weight": torch.zeros(8, 1, 3, 3)}))
    assert "It is not a SAT, ViT or CED" in message
    assert "conv1.weight (8, 1, 3, 3) is not expected" in message


def test_a_file_of_another_family_is_recognised_at_the_delay_that_was_asked_for(shared: Path) -> None:
    message = refusal(shared / "checkpoints" / "mn04_as_mAP_432.pt")
    assert "is not sat-t at 2 s. This looks like mn04 at 2 s: pass --model mn04 --delay 2." in message


def test_three_mismatches_are_named_and_all_are_counted(sat_t: State, tmp_path: Path) -> None:
    state = {key: value for key, value in sat_t.items() if not key.startswith("blocks.5.norm")}
    state |= {WEIGHT: torch.zeros(5), "extra": torch.zeros(2)}
    message = refusal(save_torch(tmp_path / "w.pt", state))
    assert (f"{WEIGHT} is (5,), expected (768,); extra (2,) is not expected; "
            "blocks.5.norm1.weight (192,) is missing; 6 mismatches in all. It looks like this model, but"
            ) in message


def test_one_extra_entry_is_an_error(sat_t: State, tmp_path: Path) -> None:
    path = save_torch(tmp_path / "w.pt", sat_t | {"extra": torch.zeros(2)})
    assert "extra (2,) is not expected" in refusal(path)


@pytest.mark.parametrize("prefix", ["module.", "model._orig_mod."])
def test_the_error_for_a_prefix_has_code_that_removes_it(
        prefix: str, sat_t: State, tmp_path: Path) -> None:
    path = save_torch(tmp_path / "w.pt", {prefix + key: v for key, v in sat_t.items()})
    assert f"k.removeprefix('{prefix}')" in refusal(path)


def test_protocol_3_loads_without_a_warning(sat_t: State, tmp_path: Path) -> None:
    torch.save(sat_t, tmp_path / "w.pt", pickle_protocol=3)
    assert load_checkpoint(str(tmp_path / "w.pt"), SAT_T).classes == 527


@pytest.mark.parametrize("key", keys.FRONT_END)
def test_another_front_end_is_refused_and_a_rounded_one_is_replaced(
        key: str, sat_t: State, tmp_path: Path) -> None:
    near = save_torch(tmp_path / "near.pt", sat_t | {key: sat_t[key] + 5e-4})
    np.testing.assert_array_equal(load_checkpoint(str(near), SAT_T).state[key], sat_t[key].numpy())
    far = save_torch(tmp_path / "far.pt", sat_t | {key: sat_t[key] + 2e-3})
    assert f"{key} differs by 0.002 from the front end" in refusal(far)


# The demo.

@pytest.fixture
def demo_path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    path = tmp_path / "demo.safetensors"
    monkeypatch.setitem(family.DEMOS, "sat-t-2s", path)
    return path


def test_the_demo_is_a_trained_sat_t_at_2_s(demo_path: Path, sat_t: State) -> None:
    save_safetensors(demo_path, {key: value.half() for key, value in sat_t.items()})
    loaded = load_checkpoint("demo", SAT_T)
    assert (loaded.source, loaded.name, loaded.dtype) == ("demo", "demo", "float16")
    assert loaded.source == "demo"
    assert checkpoint_file.find_by_sha256(loaded.sha256, family.DEMOS.values()) == demo_path


def test_the_demo_of_another_variant_is_wrong_use() -> None:
    with pytest.raises(UsageError, match="--model sat-t --delay 2"):
        load_checkpoint("demo", find_model("sat-t")[1])


def test_a_package_without_the_demo_says_so(demo_path: Path) -> None:
    with pytest.raises(CheckpointError, match="lacks the demo"):
        load_checkpoint("demo", SAT_T)
