"""Recorded outputs of the published implementation, and models with the same weights."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from satexport.models.checkpoint import load_checkpoint
from satexport.models.family import Checkpoint, State
from satexport.models.htsat.keys import expected_shapes
from satexport.models.htsat.state import front_end_entries
from satexport.models.htsat.variants import Variant, find_model
from tests import ROOT
from tests.models import seeded
from tests.models.checkpoints import save_torch

BASELINES = ROOT / "tests" / "data" / "baselines"
TINY = "htsat-8x1-2-2-4x2-2-2-2"
CLASSES = 40  # of the small model of the vectors
SECONDS = (1, 2, 10)
PREFIX = "sed_model."


def recorded(seconds: int) -> dict[str, Any]:
    """Return the vectors of the small model, without its weights, which are seeded."""
    return dict(np.load(BASELINES / f"htsat_tiny_{seconds}s.npz"))


def weights_of(model: str, classes: int) -> State:
    """Return the weights of the vectors: of TINY, or of the published size."""
    shapes = expected_shapes(find_model(model)[1], classes)
    return {key: seeded.weight("htsat" if model == "htsat" else "htsat-tiny", key, shape)
            for key, shape in shapes.items()}


def seeded_model(model: str, seconds: int, classes: int) -> Checkpoint[Variant]:
    """Return a model with the weights of the vectors."""
    checkpoint = load_checkpoint("random", find_model(model)[seconds])
    return replace(checkpoint, state=weights_of(model, classes),
                   labels=tuple(str(number) for number in range(classes)))


def lightning(classes: int = 527) -> dict[str, Any]:
    """Return the content of a published file, of the size TINY: all entries, and what is next to them."""
    state = {key: torch.from_numpy(value)
             for key, value in (weights_of(TINY, classes) | front_end_entries()).items()}
    state |= {"bn0.num_batches_tracked": torch.tensor(3), "head.weight": torch.zeros(classes, classes),
              "head.bias": torch.zeros(classes),
              "layers.0.blocks.0.attn.relative_position_index": torch.zeros(64, 64, dtype=torch.long),
              "layers.0.blocks.1.attn_mask": torch.zeros(64, 64, 64)}
    return {"epoch": 3, "pytorch-lightning_version": "1.5.9", "optimizer_states": [{"state": {}}],
            "state_dict": {PREFIX + key: value for key, value in state.items()}}


def save(folder: Path, content: dict[str, Any], **changed: Any) -> Path:
    """Write a file, with entries of its state dict changed or, if None, removed."""
    state = content["state_dict"] | {PREFIX + key.replace("__", "."): value for key, value in changed.items()}
    state = {key: value for key, value in state.items() if value is not None}
    return save_torch(folder / "w.ckpt", content | {"state_dict": state})


def wave(seconds: int) -> np.ndarray[Any, np.dtype[np.float32]]:
    """The audio of every vector, [1, samples]."""
    return seeded.waveform(seconds, 32_000)[None]
