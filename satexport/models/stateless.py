"""The reference of a model without a cache, for several families."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from satexport.step import FloatArray, Outputs


class Model(Protocol):
    """A module that scores audio without a state."""

    def __call__(self, audio: Tensor) -> Tensor:
        """Return the scores [N, classes] in (0, 1) of audio [N, samples]."""

    def embed(self, audio: Tensor, kind: str) -> tuple[Tensor, Tensor]:
        """Return the scores, and the embedding [N, size] of a kind that the family has."""

    def load_state_dict(self, state_dict: Mapping[str, Any]) -> object:
        """Set all weights, by the name of each."""

    def requires_grad_(self, requires_grad: bool) -> object:
        """Set whether gradients are computed."""

    def eval(self) -> object:
        """Compute as it does after training."""


def append_zeros(clips: FloatArray, samples: int) -> FloatArray:
    """Append zeros to clips [B, samples] that are shorter than `samples`."""
    return np.pad(clips, ((0, 0), (0, max(0, samples - clips.shape[1]))))


class StatelessReference:
    """A published model in PyTorch fp32 as a `Reference` that keeps nothing from step to step. `state` has
    its weights, which always fit, because reading a `Checkpoint` checks each. `embedding` is the kind that it
    computes; "": none."""

    def __init__(self, model: Model, state: Mapping[str, NDArray[Any]], embedding: str = "") -> None:
        model.load_state_dict({key: torch.from_numpy(value) for key, value in state.items()})
        model.requires_grad_(False)
        model.eval()
        self.model, self.embedding = model, embedding

    def initial_cache(self, streams: int = 1) -> None:
        """Return None: there is no cache."""

    def __call__(self, x: FloatArray, cache: None) -> tuple[Outputs, None]:
        """Compute the outputs of audio [N, samples]."""
        audio = torch.from_numpy(x)
        with torch.inference_mode():
            outputs = self.model.embed(audio, self.embedding) if self.embedding else (self.model(audio),)
        return Outputs(*(np.asarray(output.numpy()) for output in outputs)), None

    def silence(self, cache: None, stream: int) -> None:
        """Return None: there is nothing to reset."""

    def executed(self) -> dict[str, dict[str, int]]:
        return {}

    def state_bytes(self) -> int:
        return 0

    def close(self) -> None:
        """Do nothing: Python frees all that PyTorch holds."""
