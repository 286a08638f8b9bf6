"""The published model in PyTorch fp32, with its cache of hidden tokens: the reference of every proof."""

from __future__ import annotations

from typing import Final

import numpy as np
import torch

from satexport.models.family import Checkpoint
from satexport.models.sat.network import Transformer
from satexport.models.sat.variants import Variant
from satexport.step import FloatArray, Outputs


def load_model(checkpoint: Checkpoint[Variant]) -> Transformer:
    """Return the model of a checkpoint, in float32 and eval mode. It always fits, because reading a
    `Checkpoint` checks every weight."""
    model = Transformer(checkpoint.variant, checkpoint.classes)
    state = {key: torch.from_numpy(value) for key, value in checkpoint.state.items()}
    model.load_state_dict(state)
    return model.eval().requires_grad_(False)


DROPPED: Final = ("one spectrogram per clip, the cache starting empty, a last incomplete piece dropped, the "
                  "pieces' scores averaged")
PADDED: Final = ("one spectrogram per clip, split into pieces if it is longer than one; an incomplete last "
                 "piece is padded with zeros after the batch norm, a complete last piece is left out; the "
                 "pieces' scores averaged")


class PyTorchStep:
    """The published model as a step; its cache holds hidden tokens, [depth, N, C, d]. `embedding` is the kind
    that it computes; "": none."""

    def __init__(self, checkpoint: Checkpoint[Variant], embedding: str = "") -> None:
        self.model, self.embedding = load_model(checkpoint), embedding
        self.clip_protocol = PADDED if checkpoint.variant.is_ced else DROPPED
        with torch.inference_mode():
            self._initial = self.model.silence_cache()

    def initial_cache(self, streams: int = 1) -> torch.Tensor | None:
        return None if self._initial is None else self._initial.repeat(1, streams, 1, 1)

    def __call__(self, x: FloatArray,
                 cache: torch.Tensor | None) -> tuple[Outputs, torch.Tensor | None]:
        """Compute the outputs and the new cache from audio [N, samples] and the cache."""
        with torch.inference_mode():
            logits, embedding, cache = self.model.tag(torch.from_numpy(x), cache)
            scores = np.asarray(logits.sigmoid().numpy())
        return Outputs(scores, np.asarray(embedding.numpy()) if self.embedding else None), cache

    def silence(self, cache: torch.Tensor | None, stream: int) -> torch.Tensor | None:
        if cache is None or self._initial is None:
            return None
        cache = cache.clone()
        cache[:, stream] = self._initial[:, 0]
        return cache

    def executed(self) -> dict[str, dict[str, int]]:
        return {}

    def state_bytes(self) -> int:
        return 0 if self._initial is None else self._initial.nbytes

    def close(self) -> None:
        """Do nothing: Python frees all that PyTorch holds."""

    def clip_scores(self, audio: FloatArray) -> FloatArray:
        """Return the scores [B, classes] of whole clips [B, samples] by the paper's protocol."""
        with torch.inference_mode():
            return np.asarray(self.model.clip_scores(torch.from_numpy(audio)).numpy())

