"""The published model in PyTorch float32: the reference of every proof."""

from __future__ import annotations

from typing import Final

from satexport.frontends.rows import KALDI_MEL_16K as KALDI_MEL
from satexport.models.ast.network import Transformer
from satexport.models.ast.state import EPS
from satexport.models.ast.variants import Variant
from satexport.models.family import Checkpoint
from satexport.models.stateless import StatelessReference, append_zeros
from satexport.step import FloatArray

PROTOCOL: Final = ("the whole clip in one pass: frames after the 1024th (10.24 s) are dropped, zero log-mel "
                   "frames are appended to a shorter clip")


class PyTorchStep(StatelessReference):
    """The published model as a step without a state."""

    model: Transformer
    clip_protocol = PROTOCOL

    def __init__(self, checkpoint: Checkpoint[Variant], embedding: str = "") -> None:
        state = dict(checkpoint.state)
        model = Transformer(checkpoint.variant, checkpoint.classes, *state.pop(EPS).tolist())
        super().__init__(model, state, embedding)

    def clip_scores(self, audio: FloatArray) -> FloatArray:
        """Return the scores [B, classes] of whole clips [B, samples]. Zeros are appended to those
        that are shorter than a frame (25 ms)."""
        clips = append_zeros(audio, KALDI_MEL.frame)
        return self(clips, None)[0].scores
