"""The published model in PyTorch fp32: the reference of every proof."""

from __future__ import annotations

from typing import Final

import numpy as np

from satexport.models.efficientat.network import MobileNet
from satexport.models.efficientat.variants import Variant
from satexport.models.family import Checkpoint
from satexport.models.stateless import StatelessReference
from satexport.step import FloatArray

PROTOCOL: Final = "the whole clip in one pass"


class PyTorchStep(StatelessReference):
    """The published model as a step, which has no cache."""

    model: MobileNet
    clip_protocol = PROTOCOL

    def __init__(self, checkpoint: Checkpoint[Variant], embedding: str = "") -> None:
        super().__init__(MobileNet(checkpoint.variant, checkpoint.classes), checkpoint.state, embedding)
        self._shortest = checkpoint.variant.mel.n_fft // 2 + 2  # samples that can be reflected

    def clip_scores(self, audio: FloatArray) -> FloatArray:
        """Return the scores [classes] of a whole clip [samples] in one pass. Zeros follow a clip that is too
        short to be reflected (17 ms)."""
        clip = np.pad(audio, (0, max(0, self._shortest - len(audio))))
        return np.asarray(self(clip[None], None)[0].scores[0])
