"""The published model in PyTorch float32: the reference of every proof."""

from __future__ import annotations

from typing import Final

import numpy as np

from satexport.models.family import Checkpoint
from satexport.models.htsat.network import Transformer
from satexport.models.htsat.variants import LONGEST, Variant
from satexport.models.stateless import StatelessReference
from satexport.step import FloatArray

PROTOCOL: Final = ("in one pass, without the paper's ten circular shifts, with zero samples behind a clip "
                   "that is shorter than 10 s; of a longer one, the mean of the scores of each 10 s, without "
                   "overlap, with zeros behind the last")


class PyTorchStep(StatelessReference):
    """The published model as a step without a state."""

    model: Transformer
    clip_protocol = PROTOCOL

    def __init__(self, checkpoint: Checkpoint[Variant], embedding: str = "") -> None:
        state = checkpoint.state | {"bn0.num_batches_tracked": np.zeros((), np.int64)}
        super().__init__(Transformer(checkpoint.variant, checkpoint.classes), state, embedding)

    def clip_scores(self, audio: FloatArray) -> FloatArray:
        """Return the scores [B, classes] of whole clips [B, samples]."""
        longest = LONGEST * Variant.sample_rate
        pieces = [audio[:, start:start + longest] for start in range(0, max(1, audio.shape[1]), longest)]
        return np.asarray(np.mean([self(piece, None)[0].scores for piece in pieces], 0), np.float32)
