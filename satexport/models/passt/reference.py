"""The published model in PyTorch float32: the reference of every proof."""

from __future__ import annotations

from typing import Final

from satexport.models.family import Checkpoint
from satexport.models.passt.network import Transformer
from satexport.models.passt.variants import Variant
from satexport.models.patches import PATCH
from satexport.models.stateless import StatelessReference, append_zeros
from satexport.step import FloatArray

PROTOCOL: Final = "the whole clip in one pass; of a longer clip the first {} s"


class PyTorchStep(StatelessReference):
    """The published model as a step without a state."""

    model: Transformer

    def __init__(self, checkpoint: Checkpoint[Variant], embedding: str = "") -> None:
        super().__init__(Transformer(checkpoint.variant, checkpoint.classes), checkpoint.state, embedding)
        variant = checkpoint.variant
        self.clip_protocol = PROTOCOL.format(variant.longest)
        self._shortest = (PATCH - 1) * variant.mel.hop + 1  # samples of the frames of a patch
        self._longest = variant.longest * variant.sample_rate

    def clip_scores(self, audio: FloatArray) -> FloatArray:
        """Return the scores [B, classes] of whole clips [B, samples]. Zeros are appended to those
        that are shorter than the 16 frames of a patch."""
        clips = append_zeros(audio, self._shortest)[:, :self._longest]
        return self(clips, None)[0].scores
