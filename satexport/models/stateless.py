"""The reference of a model without a cache, for several families."""

from __future__ import annotations

from typing import Protocol

import numpy as np
import torch
from torch import Tensor

from satexport.step import FloatArray, Outputs


class Model(Protocol):
    """A module that scores audio without a state."""

    def __call__(self, audio: Tensor) -> Tensor:
        """Return the scores [N, classes] in (0, 1) of audio [N, samples]."""

    def embed(self, audio: Tensor, kind: str) -> tuple[Tensor, Tensor]:
        """Return the scores, and the embedding [N, size] of a kind that the family has."""


class StatelessReference:
    """A published model in PyTorch fp32 as a `Reference` that keeps nothing from step to step. `embedding` is
    the kind that it computes; "": none."""

    def __init__(self, model: Model, embedding: str = "") -> None:
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
