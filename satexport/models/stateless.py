"""The reference of a model without a cache, for several families."""

from __future__ import annotations

import numpy as np
import torch
from torch import nn

from satexport.step import FloatArray


class StatelessReference:
    """A published model in PyTorch fp32 as a `Reference` that keeps nothing from step to step. `model` takes
    audio [N, samples] and returns scores [N, classes]."""

    def __init__(self, model: nn.Module) -> None:
        self.model = model

    def initial_cache(self, streams: int = 1) -> None:
        """Return None: there is no cache."""

    def __call__(self, x: FloatArray, cache: None) -> tuple[FloatArray, None]:
        """Compute scores [N, classes] from audio [N, samples]."""
        with torch.inference_mode():
            return np.asarray(self.model(torch.from_numpy(x)).numpy()), None

    def silence(self, cache: None, stream: int) -> None:
        """Return None: there is nothing to reset."""

    def executed(self) -> dict[str, dict[str, int]]:
        return {}

    def state_bytes(self) -> int:
        return 0

    def close(self) -> None:
        """Do nothing: Python frees all that PyTorch holds."""
