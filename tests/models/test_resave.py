"""Advice on files that contain weights in another form: its code runs unchanged."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch

from satexport.errors import CheckpointError
from satexport.models.checkpoint import load_checkpoint
from satexport.models.sat.variants import find_model
from tests.models.checkpoints import (
    SAT_T,
    WEIGHT,
    State,
    hollow,
    refusal,
    renamed,
    save_safetensors,
    save_torch,
)

pytestmark = pytest.mark.usefixtures("own_cache_folder", "one_thread")

FOREIGN = {"teacher." + name: torch.zeros(2) for name in ("a", "b", "c", "d")}
WRAPPED: dict[str, Callable[[State], object]] = {
    "DataParallel": lambda s: renamed(s, "module."),
    "compiled, in a model": lambda s: renamed(s, "module.model._orig_mod."),
    "the entry model, DataParallel": lambda s: {"model": renamed(s, "module."), "epoch": 3},
    "Lightning": lambda s: {"epoch": 3, "state_dict": renamed(s, "net."), "optimizer_states": [{"state": {}}],
                            "hyper_parameters": {"lr": 1e-3}},
    "Lightning with a teacher": lambda s: {"state_dict": renamed(s, "net.") | FOREIGN},
    "Lightning with a loss": lambda s: {"state_dict": renamed(s, "net.") | {"net.loss": torch.zeros(1)}},
    "EMA": lambda s: {"model_ema": renamed(s, "ema_model.") | {"initted": torch.ones(1), "step": 3}},
    "two models": lambda s: {"state_dict": renamed(s, "net.") | renamed(s, "ema.")},
    "an optimizer": lambda s: {"optimizer": {"state": {0: {"step": torch.ones(1)}}}, "net": {"weights": s}},
    "a key that is a number": lambda s: dict([*s.items(), (3, torch.zeros(1))]),
    "an entry that is not a tensor": lambda s: {**s, "epoch": 3},
    "one entry too many": lambda s: s | {"extra": torch.zeros(1)},
    "a teacher as well": lambda s: s | FOREIGN,
    "extra entries in a block": lambda s: s | {f"blocks.{i}.gamma": torch.zeros(1) for i in range(12)},
    "many entries of LoRA": lambda s: renamed(s, "net.") | {
        f"net.blocks.{i}.attn.proj.lora_{x}.weight": torch.zeros(1) for i in range(12) for x in "AB"},
    "part of a weight's name": lambda s: s | {f"norm.{i}.weight": torch.zeros(1) for i in range(4)},
}


@pytest.mark.parametrize("wrap", WRAPPED.values(), ids=WRAPPED)
def test_code_in_advice_runs_unchanged(
        wrap: Callable[[State], object], sat_t: State, tmp_path: Path,
        monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    path = save_torch(tmp_path / "it's  weights_only=True {}.pt", wrap(sat_t))
    for _ in range(2):  # a model may be wrapped in two ways
        message = refusal(path)
        assert "incomplete" not in message
        exec(message[message.index("import torch"):], {})
        path = tmp_path / "weights.pt"
        try:
            loaded = load_checkpoint(str(path), SAT_T)
            break
        except CheckpointError:
            continue
    np.testing.assert_array_equal(loaded.state[WEIGHT], sat_t[WEIGHT].numpy())


def test_code_that_is_too_long_for_an_error_is_left_out(sat_t: State, tmp_path: Path) -> None:
    for state in (renamed(sat_t, "x" * 900 + "."), {"x" * 900: sat_t},
                  sat_t | {f"norm.{i}.{'norm.' * i}weight": torch.zeros(1) for i in range(40)}):
        message = refusal(save_torch(tmp_path / "w.pt", state))
        assert "import torch" not in message
        assert message.endswith("save only the weights: torch.save(model.state_dict(), 'weights.pt')")


def test_code_in_advice_on_safetensors_runs_unchanged(
        sat_t: State, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    message = refusal(save_safetensors(tmp_path / "w.safetensors", renamed(sat_t, "module.") | FOREIGN))
    exec(message[message.index("from safetensors"):], {})
    loaded = load_checkpoint("weights.safetensors", SAT_T)
    np.testing.assert_array_equal(loaded.state[WEIGHT], sat_t[WEIGHT].numpy())


def test_advice_names_the_place_prefix_and_model_of_the_weights(sat_t: State, tmp_path: Path) -> None:
    content = {"net": renamed(sat_t, "net."), "ema": sat_t}
    message = refusal(save_torch(tmp_path / "w.pt", content))
    assert ("The weights are in ['net'], their names start with 'net.' (others are in ['ema'])"
            ) in message
    message = refusal(save_torch(tmp_path / "w.pt", renamed(sat_t, "a.") | renamed(sat_t, "b.")))
    assert "Its weight names start with 'a.' or 'b.'" in message
    message = refusal(save_torch(tmp_path / "w.pt", renamed(hollow(find_model("sat-s")[2]), "module.")))
    assert "Its weight names start with 'module.'. This looks like sat-s" in message


@pytest.mark.parametrize("protocol", [0, 1, 4, 5])
def test_a_protocol_that_torch_does_not_read_safely_is_named(
        protocol: int, sat_t: State, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    path = tmp_path / "weights_only=True  {}.pt"
    torch.save(sat_t, path, pickle_protocol=protocol)
    message = refusal(path)
    assert f"is written in pickle protocol {protocol if protocol > 1 else '0 or 1'}; torch reads" in message
    if protocol > 1:  # no torch reads the others
        assert "only if you trust the file" in message
        exec(message[message.index("import torch"):], {})
        assert load_checkpoint("weights.pt", SAT_T).classes == 527
