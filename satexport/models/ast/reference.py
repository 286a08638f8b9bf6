"""The published model in PyTorch float32: the reference of every proof."""

from __future__ import annotations

from typing import Final

import numpy as np
import torch
import torch.nn.functional as F

from satexport.frontends.rows import KALDI_MEL_16K as KALDI_MEL
from satexport.models.ast.network import Transformer
from satexport.models.ast.state import EPS
from satexport.models.ast.variants import Variant
from satexport.models.family import Checkpoint
from satexport.step import FloatArray

PROTOCOL: Final = ("the whole clip in one pass: frames after the 1024th (10.24 s) are dropped, zero log-mel "
                   "frames are appended to a shorter clip")


def load_model(checkpoint: Checkpoint[Variant]) -> Transformer:
    """Return the model of a checkpoint, in float32 and eval mode. It always fits, because reading a
    `Checkpoint` checks every weight."""
    state = {key: torch.from_numpy(value) for key, value in checkpoint.state.items()}
    model = Transformer(checkpoint.variant, checkpoint.classes, *state.pop(EPS).tolist())
    model.load_state_dict(state)
    return model.eval().requires_grad_(False)


class PyTorchStep:
    """The published model as a step without a state."""

    clip_protocol = PROTOCOL

    def __init__(self, checkpoint: Checkpoint[Variant]) -> None:
        self.model = load_model(checkpoint)

    def initial_cache(self, streams: int = 1) -> None:
        return None

    def __call__(self, x: FloatArray, cache: None) -> tuple[FloatArray, None]:
        """Compute scores [N, classes] from audio [N, samples]."""
        with torch.inference_mode():
            return np.asarray(self.model(torch.from_numpy(x)).numpy()), None

    def silence(self, cache: None, stream: int) -> None:
        return None

    def executed(self) -> dict[str, dict[str, int]]:
        return {}

    def state_bytes(self) -> int:
        return 0

    def close(self) -> None:
        """Do nothing: Python frees all that PyTorch holds."""

    def clip_scores(self, audio: FloatArray) -> FloatArray:
        """Return the scores [classes] of a whole clip [samples]. Zeros are appended to one that is shorter
        than a frame (25 ms)."""
        clip = F.pad(torch.from_numpy(audio), (0, max(0, KALDI_MEL.frame - len(audio))))
        return np.asarray(self(clip[None].numpy(), None)[0][0])
