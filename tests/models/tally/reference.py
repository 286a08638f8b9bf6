"""Tally in numpy, float64: the reference."""

from __future__ import annotations

from math import erf

import numpy as np
from numpy.typing import NDArray

from satexport.models.family import Checkpoint
from satexport.step import FloatArray, Outputs
from tests.models.tally.variants import LOG_MEL, Variant

Cache = NDArray[np.float64]  # [N, memory, width]


class NumpyTally:
    clip_protocol = ""
    model = None

    def __init__(self, checkpoint: Checkpoint[Variant], embedding: str = "") -> None:
        self.variant, self.embedding = checkpoint.variant, embedding
        self.w = {key: value.astype(np.float64) for key, value in checkpoint.state.items()}

    def initial_cache(self, streams: int) -> Cache:
        hidden = self._hidden(np.zeros((1, self.variant.window_samples), np.float32))
        return np.repeat(hidden[:, None], self.variant.memory_steps, 1).repeat(streams, 0)

    def __call__(self, x: FloatArray, cache: Cache) -> tuple[Outputs, Cache]:
        hidden = np.concatenate((cache, self._hidden(x)[:, None]), 1)
        mean = hidden.mean(1)
        scores = 1 / (1 + np.exp(-mean @ self.w["head.weight"].T - self.w["head.bias"]))
        embedding = np.asarray(mean, np.float32) if self.embedding else None
        return Outputs(np.asarray(scores, np.float32), embedding), hidden[:, 1:]

    def silence(self, cache: Cache, stream: int) -> Cache:
        cache = cache.copy()
        cache[stream] = self.initial_cache(1)[0]
        return cache

    def executed(self) -> dict[str, dict[str, int]]:
        return {}

    def close(self) -> None:
        """Do nothing: Python frees the arrays."""

    def state_bytes(self) -> int:
        return self.initial_cache(1).nbytes

    def clip_scores(self, audio: FloatArray) -> FloatArray | None:
        return None

    def _hidden(self, audio: FloatArray) -> NDArray[np.float64]:
        spectrum = LOG_MEL.compute(audio, self.variant.frames).astype(np.float64).mean(2)
        x = (spectrum * self.w["band.scale"] + self.w["band.shift"]) @ self.w["hidden.weight"].T
        x = x + self.w["hidden.bias"]
        hidden: NDArray[np.float64] = x * 0.5 * (1 + np.vectorize(erf)(x * 0.5 ** 0.5))
        return hidden
