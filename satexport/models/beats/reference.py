"""The published model in PyTorch float32: the reference of every proof."""

from __future__ import annotations

from typing import Final

from satexport.frontends.rows import KALDI_MEL_16K_POVEY as KALDI_MEL
from satexport.models.beats.network import Transformer
from satexport.models.beats.variants import PATCH, Variant
from satexport.models.family import Checkpoint
from satexport.models.stateless import StatelessReference, append_zeros
from satexport.step import FloatArray

PROTOCOL: Final = ("the whole clip in one pass; of a clip of more than 30 s, its first 30 s (a limit of "
                   "satexport, not of a paper)")
LONGEST: Final = 30 * KALDI_MEL.sample_rate  # samples of a clip, our choice: work grows with their square
SHORTEST: Final = KALDI_MEL.frame + (PATCH - 1) * KALDI_MEL.hop  # samples of one patch


class PyTorchStep(StatelessReference):
    """The published model as a step without a state."""

    model: Transformer
    clip_protocol = PROTOCOL

    def __init__(self, checkpoint: Checkpoint[Variant], embedding: str = "") -> None:
        super().__init__(Transformer(checkpoint.variant, checkpoint.classes), checkpoint.state, embedding)

    def clip_scores(self, audio: FloatArray) -> FloatArray:
        """Return the scores [B, classes] of whole clips [B, samples]. Zeros are appended to those
        that are shorter than a patch (175 ms)."""
        clips = append_zeros(audio[:, :LONGEST], SHORTEST)
        return self(clips, None)[0].scores
