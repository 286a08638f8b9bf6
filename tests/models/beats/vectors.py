"""Recorded outputs of the published implementation, and files with the same weights."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from satexport.audio.labels import audioset_mids
from satexport.models.beats.keys import BIAS_TABLE, bias_tables, expected_shapes
from satexport.models.beats.variants import Variant, find_model
from satexport.models.checkpoint import load_checkpoint
from satexport.models.family import Checkpoint, State
from tests import ROOT
from tests.models import seeded
from tests.models.checkpoints import save_torch

BASELINES = ROOT / "tests" / "data" / "baselines"
SIZE = "48x3x2x96"
TINY = f"beats-embed32-{SIZE}"
SECONDS = (1, 2, 10)
MIDS = tuple(audioset_mids())
ORDER = np.random.default_rng(0).permutation(len(MIDS))  # row i of a file's predictor scores class ORDER[i]


def recorded(seconds: int) -> dict[str, Any]:
    """Return the vectors of the small model, whose classes are in AudioSet's order."""
    return dict(np.load(BASELINES / f"beats_tiny_{seconds}s.npz"))


def weights() -> State:
    return {key.removeprefix("w/"): value for key, value in recorded(1).items() if key.startswith("w/")}


def config() -> dict[str, Any]:
    return dict(json.loads(str(recorded(1)["meta"]))["cfg"])


def content() -> dict[str, Any]:
    """Return what a published file of the small model holds, its classes in ORDER."""
    state = {key: torch.from_numpy(value[ORDER] if key.startswith("predictor") else value)
             for key, value in weights().items()}
    return {"cfg": config(), "model": state, "label_dict": {i: MIDS[row] for i, row in enumerate(ORDER)}}


def save(folder: Path, **changes: Any) -> Path:
    """Write a file as published, with changed entries; None: without."""
    entries = {key: value for key, value in (content() | changes).items() if value is not None}
    return save_torch(folder / "w.pt", entries)


def wave(seconds: int) -> np.ndarray[Any, np.dtype[np.float32]]:
    """The audio of every vector, [1, samples]."""
    return seeded.waveform(seconds, 16_000)[None]


def seeded_model(model: str, delay: int) -> Checkpoint[Variant]:
    """Return a model with the weights of the vectors: TINY or the published size."""
    checkpoint = load_checkpoint("random", find_model(model)[delay])
    size = checkpoint.variant.size
    state = {key: seeded.weight("beats-tiny" if model == TINY else "beats", key, shape)
             for key, shape in expected_shapes(size, checkpoint.classes).items()}
    return replace(checkpoint, state=state | dict.fromkeys(bias_tables(size), state[BIAS_TABLE]))
