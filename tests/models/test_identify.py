"""Files of models of another size, whose shapes do not show the whole name: what a user hears who names no
model, or one of another family."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from satexport.errors import CheckpointError
from satexport.models.checkpoint import load_checkpoint, recognize_variant
from satexport.models.families import find_variant
from satexport.models.htsat.keys import HEAD_WEIGHT
from satexport.models.sat.keys import FRONT_END, hub_name
from tests.commands.calls import call
from tests.models.checkpoints import State, save_torch

pytestmark = pytest.mark.usefixtures("own_cache_folder", "one_thread")


def weights(model: str, delay: int = 2) -> State:
    state = load_checkpoint("random", find_variant(model, delay)).state
    return {key: torch.from_numpy(value) for key, value in state.items() if key != "eps"}


def on_the_hub() -> State:
    return {hub_name(key): value for key, value in weights("ced-mini-48x3x2").items() if key not in FRONT_END}


def under(prefix: str, state: State) -> State:
    return {prefix + key: value for key, value in state.items()}


FILES: dict[str, tuple[Callable[[], State], str]] = {  # -> state dict, what the error says
    "sat": (lambda: weights("sat-b-48x3x2"),
            "a SAT of width 48 with 2 blocks.* --model sat-t-48xHEADSx2 --delay 2 with"),
    "sat 1 s": (lambda: weights("sat-t-192x3x2", 1), "--model sat-t-192xHEADSx2 --delay 1 with"),
    "sat-s": (lambda: weights("sat-s-48x3x2"), "--model sat-s-48xHEADSx2 with"),
    "vit": (lambda: weights("vit-b-48x3x2"), r"a ViT or a CED of width 48.* --model vit-t-48xHEADSx2 or "
            r"ced-tiny-48xHEADSx2 \(the shapes do not tell which\) with"),
    "ced": (on_the_hub, "is a CED of width 48 with 2 blocks.* --model ced-tiny-48xHEADSx2 with"),
    "ast": (lambda: weights("ast-s16-48x3x2x96"), "an AST of width 48.* --model ast-s16-48xHEADSx2x96 with"),
    "passt": (lambda: under("net.", weights("passt-s14-48x3x2x96")),
              "a PaSST of width 48 with 2 blocks.* --model passt-s14-48xHEADSx2x96 with that number for"),
    "htsat": (lambda: {HEAD_WEIGHT: torch.zeros(527, 64, 2, 3)}, "an HTS-AT of a size that is not supported"),
}


@pytest.mark.parametrize("name", FILES)
def test_a_file_is_identified_without_a_model_and_with_one_of_another_family(
        name: str, tmp_path: Path) -> None:
    state, words = FILES[name]
    path = save_torch(tmp_path / "w.pt", state())
    with pytest.raises(CheckpointError, match=words):
        recognize_variant(str(path))
    for model in ("sat-t", "passt-s10", "ast", "beats", "htsat", "mn10", "vit-t", "ced-tiny"):
        with pytest.raises(CheckpointError, match=words) as caught:
            load_checkpoint(str(path), find_variant(model, 2))
        assert "names start with" not in str(caught.value)


@pytest.mark.parametrize("change", [torch.Tensor.double, torch.Tensor.bfloat16, lambda v: v * torch.nan],
                         ids=["float64", "bfloat16", "NaN"])
def test_values_that_cannot_be_used_do_not_hide_what_the_file_is(
        change: Callable[[torch.Tensor], torch.Tensor], tmp_path: Path) -> None:
    state = {key: change(value) for key, value in weights("passt-s14-48x3x2x96").items()}
    path = save_torch(tmp_path / "w.pt", state)
    result = call("onnx", "--checkpoint", path, "--output", tmp_path / "build")
    assert (result.code, "It is a PaSST of width 48" in result.err) == (4, True)


def test_an_incomplete_file_of_the_right_size_is_not_asked_for_its_heads(tmp_path: Path) -> None:
    state = weights("sat-t-48x3x2")
    del state["blocks.1.norm1.bias"]
    path = save_torch(tmp_path / "w.pt", state)
    with pytest.raises(CheckpointError, match="looks like this model, but the file is incomplete"):
        load_checkpoint(str(path), find_variant("sat-t-48x3x2", 2))
