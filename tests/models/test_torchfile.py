"""Files of torch.save that hold more than a state dict: the weights are read, nothing is executed."""

from __future__ import annotations

import sys
import types
from collections import defaultdict
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch

from satexport.models.checkpoint import load_checkpoint
from tests.models.checkpoints import SAT_T, WEIGHT, Hostile, State, refusal, save_torch

pytestmark = pytest.mark.usefixtures("own_cache_folder", "one_thread")


@pytest.mark.parametrize("wrap", [
    lambda s: {"model": s, "epoch": 3}, lambda s: {"epoch": 3, "state_dict": s, "optimizer_states": [{}]},
    lambda s: {"model": {"name": "sat"}, "state_dict": s},
    lambda s: {"arch": "sat_t", "state_dict": s, "state_dict_ema": s}], ids=range(4))
def test_weights_are_read_from_an_entry_of_a_file(
        wrap: Callable[[State], object], sat_t: State, tmp_path: Path) -> None:
    loaded = load_checkpoint(str(save_torch(tmp_path / "w.pt", wrap(sat_t))), SAT_T)
    np.testing.assert_array_equal(loaded.state[WEIGHT], sat_t[WEIGHT].numpy())


class Settings:
    """An object of a class that the reader of a file does not have."""

    def __init__(self) -> None:
        self.rate = 1e-3


class AttributeDict(dict[str, object]):
    """A dict of such a class, as Lightning keeps the hyper-parameters of a model."""


class Names(list[str]):
    """A list of such a class."""


@pytest.fixture
def lightning(sat_t: State, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, object]:
    """The content of a file of Lightning: a class is a key, objects are in it, and code that would run."""
    module = types.ModuleType("foreign_callbacks")
    monkeypatch.setitem(sys.modules, "foreign_callbacks", module)
    for kind in (Settings, AttributeDict, Names):
        monkeypatch.setattr(kind, "__module__", "foreign_callbacks")
        monkeypatch.setattr(module, kind.__name__, kind, raising=False)
    parameters = AttributeDict(rate=1e-3, folder=Path("runs"), names=Names(["a", "b"]))
    parameters.is_frozen = True  # type: ignore[attr-defined]
    return {"pytorch-lightning_version": "1.5.9", "epoch": 3, "state_dict": sat_t,
            "callbacks": {Settings: {"best": torch.ones(1)}}, "hyper_parameters": parameters,
            "loops": defaultdict[str, object](dict, fit=defaultdict[str, object](Settings, a=Names("c"))),
            "settings": Settings(), "lr_schedulers": [Hostile(tmp_path / "executed")]}


def test_a_file_of_lightning_is_read_without_its_classes_and_nothing_in_it_is_executed(
        lightning: dict[str, object], sat_t: State, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = save_torch(tmp_path / "w.ckpt", lightning)
    monkeypatch.delitem(sys.modules, "foreign_callbacks")
    loaded = load_checkpoint(str(path), SAT_T)
    np.testing.assert_array_equal(loaded.state[WEIGHT], sat_t[WEIGHT].numpy())
    assert not (tmp_path / "executed").exists()
    let_in = {getattr(entry, "__module__", "") for entry in torch.serialization.get_safe_globals()}
    assert not let_in & {"foreign_callbacks", "io"}  # the stand-ins were for this file only


def test_a_file_with_other_objects_that_is_not_of_lightning_is_refused(
        lightning: dict[str, object], tmp_path: Path) -> None:
    del lightning["pytorch-lightning_version"]
    message = refusal(save_torch(tmp_path / "w.ckpt", lightning))
    assert "expected only tensors; nothing in it was executed" in message
    assert not (tmp_path / "executed").exists()
