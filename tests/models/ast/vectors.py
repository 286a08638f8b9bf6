"""Recorded outputs of the published implementations, and files with the same weights."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.numpy import save_file

from satexport.models.ast.keys import expected_shapes
from satexport.models.ast.variants import Variant, find_model
from satexport.models.checkpoint import load_checkpoint
from satexport.models.family import Checkpoint, State
from tests import ROOT
from tests.models import seeded

BASELINES = ROOT / "tests" / "data" / "baselines"
SIZE = "48x3x2x96"
TINY = f"ast-{SIZE}"
SECONDS = (1, 2, 10)
FEATURES = 1e-4     # of a normalised log-mel; published and float64 differ by 8e-5


def recorded(seconds: int) -> Mapping[str, Any]:
    """Return the vectors of the small model, run with transformers' epsilon 1e-12."""
    return dict(np.load(BASELINES / f"ast_tiny_{seconds}s.npz"))


def weights_of(seconds: int) -> State:
    """Return the small model's weights: with the original names (1 s) or those of transformers (2 s)."""
    return {key.removeprefix("w/"): value for key, value in recorded(seconds).items() if key.startswith("w/")}


def original_names() -> State:
    return weights_of(1)


def transformers_names() -> State:
    return weights_of(2)


def names_in_memory() -> State:
    """Return the weights with the names that transformers 5 has in memory."""
    new = {"encoder.layer.": "layers.", "attention.attention.query": "attention.q_proj",
           "attention.attention.key": "attention.k_proj", "attention.attention.value": "attention.v_proj",
           "attention.output.dense": "attention.o_proj", "intermediate.dense": "mlp.fc1",
           "output.dense": "mlp.fc2"}
    renamed = {}
    for key, value in transformers_names().items():
        name = key
        for before, after in new.items():
            name = name.replace(before, after)
        renamed[name] = value
    return renamed


def save(folder: Path, state: State, name: str = "w") -> Path:
    save_file(state, folder / f"{name}.safetensors")
    return folder / f"{name}.safetensors"


def wave(seconds: int) -> np.ndarray[Any, np.dtype[np.float32]]:
    """The audio of every vector, [1, samples]."""
    return seeded.waveform(seconds, 16_000)[None]


def full_size(delay: int) -> Checkpoint[Variant]:
    """Return the published size with the weights of the vectors."""
    checkpoint = load_checkpoint("random", find_model("ast")[delay])
    shapes = expected_shapes(checkpoint.variant, checkpoint.classes)
    state = {key: seeded.weight("ast", key, shape) for key, shape in shapes.items()}
    return replace(checkpoint, state=checkpoint.state | state)


def hollow(model: str) -> dict[str, torch.Tensor]:
    """Return a state dict with the original names and all weights zero: a small file with the right
    shapes."""
    return {f"module.{key}": torch.zeros(()).expand(shape)
            for key, shape in expected_shapes(find_model(model)[2], 527).items()}
