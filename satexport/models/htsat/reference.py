"""The published model in PyTorch float32: the reference of every proof."""

from __future__ import annotations

from typing import Final

import numpy as np
import torch

from satexport.models.family import Checkpoint
from satexport.models.htsat.network import Transformer
from satexport.models.htsat.variants import LONGEST, Variant
from satexport.models.stateless import StatelessReference
from satexport.step import FloatArray

PROTOCOL: Final = ("in one pass, without the ten circular shifts of the paper, with zero samples behind a clip "
                   "that is shorter than 10 s; of a longer one, the mean of the scores of each 10 s, without "
                   "overlap, with zeros behind the last")


def load_model(checkpoint: Checkpoint[Variant]) -> Transformer:
    """Return the model of a checkpoint, in float32 and eval mode. It always fits, because reading a
    `Checkpoint` checks every weight."""
    state = {key: torch.from_numpy(value) for key, value in checkpoint.state.items()}
    model = Transformer(checkpoint.variant, checkpoint.classes)
    model.load_state_dict(state | {"bn0.num_batches_tracked": torch.zeros((), dtype=torch.long)})
    return model.eval().requires_grad_(False)


class PyTorchStep(StatelessReference):
    """The published model as a step without a state."""

    model: Transformer
    clip_protocol = PROTOCOL

    def __init__(self, checkpoint: Checkpoint[Variant], embedding: str = "") -> None:
        super().__init__(load_model(checkpoint), embedding)

    def clip_scores(self, audio: FloatArray) -> FloatArray:
        """Return the scores [classes] of a whole clip [samples]."""
        longest = LONGEST * Variant.sample_rate
        pieces = [audio[start:start + longest] for start in range(0, max(1, len(audio)), longest)]
        return np.asarray(np.mean([self(piece[None], None)[0].scores[0] for piece in pieces], 0), np.float32)
