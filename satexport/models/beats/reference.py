"""The published model in PyTorch float32: the reference of every proof."""

from __future__ import annotations

from typing import Final

import numpy as np

from satexport.frontends.rows import KALDI_MEL_16K_POVEY as KALDI_MEL
from satexport.models.beats.network import Transformer
from satexport.models.beats.variants import PATCH, Variant
from satexport.models.family import Checkpoint
from satexport.models.stateless import StatelessReference
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
        """Return the scores [classes] of a whole clip [samples]. Zeros are appended to one that is shorter
        than a patch (175 ms)."""
        clip = np.pad(audio[:LONGEST], (0, max(0, SHORTEST - len(audio))))
        return np.asarray(self(clip[None], None)[0].scores[0])
