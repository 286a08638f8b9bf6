"""The published model in PyTorch fp32: the reference of every proof."""

from __future__ import annotations

from typing import Final

import numpy as np
import torch
import torch.nn.functional as F

from satexport.models.efficientat.network import MobileNet
from satexport.models.efficientat.variants import Variant
from satexport.models.family import Checkpoint
from satexport.step import FloatArray

CLIP_PROTOCOL: Final = "the whole clip in one pass"


def load_model(checkpoint: Checkpoint[Variant]) -> MobileNet:
    """Return the model of a checkpoint, in float32 and eval mode."""
    model = MobileNet(checkpoint.variant, checkpoint.classes)
    state = {key: torch.from_numpy(value) for key, value in checkpoint.state.items()}
    model.load_state_dict(state)
    return model.eval().requires_grad_(False)


class PyTorchStep:
    """The published model as a step, which has no cache."""

    clip_protocol = CLIP_PROTOCOL

    def __init__(self, checkpoint: Checkpoint[Variant]) -> None:
        self.model = load_model(checkpoint)
        self._shortest = checkpoint.variant.mel.n_fft // 2 + 2  # samples that can be reflected

    def initial_cache(self, streams: int = 1) -> None:
        """Return None: nothing is kept from step to step."""

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

    def clip_scores(self, audio: FloatArray) -> FloatArray:
        """Return the scores [classes] of a whole clip [samples] in one pass. Zeros follow a clip that is too
        short to be reflected (17 ms)."""
        samples = torch.from_numpy(audio)[None]
        samples = F.pad(samples, (0, max(0, self._shortest - samples.shape[1])))
        with torch.inference_mode():
            return np.asarray(self.model(samples)[0].numpy())
