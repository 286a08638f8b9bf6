"""The published model in PyTorch fp32: the reference of every proof."""

from __future__ import annotations

from typing import Final

from satexport.models.efficientat.network import MobileNet
from satexport.models.efficientat.variants import Variant
from satexport.models.family import Checkpoint
from satexport.models.stateless import StatelessReference, append_zeros
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
        """Return the scores [B, classes] of whole clips [B, samples] in one pass. Zeros follow
        clips that are too short to be reflected (17 ms)."""
        clips = append_zeros(audio, self._shortest)
        return self(clips, None)[0].scores
