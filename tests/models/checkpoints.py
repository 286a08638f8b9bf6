"""Files of weights as users have them, and the error message if one is refused."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import safetensors.torch
import torch
from torch import Tensor

from satexport.errors import CheckpointError
from satexport.models.checkpoint import load_checkpoint
from satexport.models.family import Variant as AnyVariant
from satexport.models.sat.network import Transformer
from satexport.models.sat.variants import Variant, find_model

State = dict[str, Tensor]
SAT_T = find_model("sat-t")[2]
COUNTER = "init_bn.1.num_batches_tracked"
WEIGHT = "blocks.3.mlp.fc1.bias"


def hollow(variant: Variant, classes: int = 527) -> State:
    """Return the state dict of a variant with all weights zero: a small file with the right shapes."""
    with torch.device("meta"):
        state = Transformer(variant, classes).state_dict()
    return {key: value if value.device.type == "cpu" else torch.zeros(()).expand(value.shape)
            for key, value in state.items()}


def save_torch(path: Path, content: object) -> Path:
    torch.save(content, path)
    return path


def save_safetensors(path: Path, state: State) -> Path:
    safetensors.torch.save_file(state, path)
    return path


Save = Callable[[Path, State], Path]
both_formats = pytest.mark.parametrize("save", [save_torch, save_safetensors])


def refusal(path: Path, variant: AnyVariant = SAT_T) -> str:
    """Return the message of the error that loading the file raises."""
    with pytest.raises(CheckpointError) as error:
        load_checkpoint(str(path), variant)
    assert str(path) in str(error.value)
    return str(error.value)


def renamed(state: State, prefix: str) -> State:
    return {prefix + key: value for key, value in state.items()}


class Hostile:
    """Unpickling it creates a file."""

    def __init__(self, trace: Path) -> None:
        self.trace = trace

    def __reduce__(self) -> tuple[object, ...]:
        return open, (str(self.trace), "w")
