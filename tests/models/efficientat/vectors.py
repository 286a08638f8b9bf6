"""Recorded outputs of the published implementation, and models with the same weights."""

from __future__ import annotations

from collections.abc import Mapping
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import torch

from satexport.models.efficientat.embeddings import H_CLF1, H_CLF2, M_B_L, M_SE, embeddings
from satexport.models.efficientat.network import MobileNet
from satexport.models.efficientat.variants import SAMPLE_RATE, Variant, find_model
from tests import ROOT
from tests.models import seeded

BASELINES = ROOT / "tests" / "data" / "baselines"
VECTORS: Mapping[str, Any] = np.load(BASELINES / "mn_seeded.npz")
KINDS = {"embedding": H_CLF1, "h_clf1": H_CLF1, "mb_l": M_B_L, "m_se": M_SE, "h_clf2": H_CLF2}  # by array


def seeded_state(variant: Variant) -> dict[str, torch.Tensor]:
    """Return the weights of the vectors. Front ends other than mn10's were run with mn10's weights."""
    family = variant.model.replace("-", "_") if variant.head == "fc" else variant.model.partition("-")[0]
    shapes = {key: tuple(value.shape) for key, value in MobileNet(variant).state_dict().items()}
    return {key: torch.from_numpy(seeded.weight(family, key, shape)) for key, shape in shapes.items()
            if not key.endswith("num_batches_tracked")}


@lru_cache(maxsize=2)
def published(model: str, delay: int = 2) -> MobileNet:
    """Return a model with the weights of the vectors."""
    return load(find_model(model)[delay], seeded_state(find_model(model)[delay]))


def load(variant: Variant, state: Mapping[str, torch.Tensor]) -> MobileNet:
    network = MobileNet(variant).eval().requires_grad_(False)
    missing, surplus = network.load_state_dict(state, strict=False)
    assert not surplus
    assert all(key.endswith("num_batches_tracked") for key in missing)
    return network


def trained(shared: Path) -> MobileNet:
    """Return the published mn04, trained on AudioSet."""
    state = torch.load(shared / "checkpoints" / "mn04_as_mAP_432.pt", weights_only=True)
    return load(find_model("mn04")[2], state)


def wave(seconds: int) -> torch.Tensor:
    """The audio of every vector, [1, samples]."""
    return torch.from_numpy(seeded.waveform(seconds, SAMPLE_RATE))[None]


def outputs(network: MobileNet, audio: torch.Tensor) -> dict[str, np.ndarray[Any, Any]]:
    """Return what the vectors record, by name: scores before the sigmoid, and embeddings [1, width]."""
    x = network.normalised(audio)
    found = {"logits": network.logits(x), "features": x[:, 0], "features_mean": x.mean(3)[:, 0]}
    found |= {name: network.embed(audio, kind)[1] for name, kind in KINDS.items()
              if kind in embeddings(network.variant)}
    return {name: value.numpy() for name, value in found.items()}
