"""Recorded outputs of the published implementation, and models with the same weights."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.numpy import save_file

from satexport.models.checkpoint import load_checkpoint
from satexport.models.family import Checkpoint, State
from satexport.models.passt.keys import expected_shapes
from satexport.models.passt.variants import SAMPLE_RATE, Variant, find_model
from tests import ROOT
from tests.models import seeded

BASELINES = ROOT / "tests" / "data" / "baselines"
SIZE = "48x3x2x192"
TINY, TINY_16 = f"passt-s10-{SIZE}", f"passt-s16-{SIZE}"
SEEDS = {TINY: "passt-tiny", TINY_16: "passt16-tiny", "passt-s10": "passt", "passt-s16": "passt16"}
SECONDS = (1, 2, 10)


def recorded(model: str, seconds: int) -> dict[str, Any]:
    """Return the vectors of a model: its `logits` and `embedding`, for TINY more."""
    if model == TINY:
        return dict(np.load(BASELINES / f"passt_tiny_{seconds}s.npz"))
    vectors = np.load(BASELINES / "passt_full_seeded.npz")
    return {name: vectors[f"{SEEDS[model]}/{name}_{seconds}s"] for name in ("logits", "embedding")}


def published_names() -> State:
    """Return the state dict of TINY in a published file, with the head that is never run."""
    return {key.removeprefix("w/"): value for key, value in recorded(TINY, 1).items() if key.startswith("w/")}


def seeded_model(model: str, delay: int) -> Checkpoint[Variant]:
    """Return a model with the weights of the vectors."""
    checkpoint = load_checkpoint("random", find_model(model)[delay])
    shapes = expected_shapes(checkpoint.variant, checkpoint.classes)
    state = {key: seeded.weight(SEEDS[model], key, shape) for key, shape in shapes.items()}
    return replace(checkpoint, state=state)


def save(folder: Path, state: Mapping[str, np.ndarray[Any, Any]], name: str = "w") -> Path:
    save_file(dict(state), folder / f"{name}.safetensors")
    return folder / f"{name}.safetensors"


def wave(seconds: int) -> np.ndarray[Any, np.dtype[np.float32]]:
    """The audio of every vector, [1, samples]."""
    return seeded.waveform(seconds, SAMPLE_RATE)[None]


def hollow(model: str) -> dict[str, torch.Tensor]:
    """Return a published state dict with all weights zero: a small file with the right shapes."""
    shapes = expected_shapes(find_model(model)[2], 527)
    shapes |= {"head_dist.weight": shapes["head.1.weight"], "head_dist.bias": shapes["head.1.bias"]}
    return {key: torch.zeros(()).expand(shape) for key, shape in shapes.items()}
