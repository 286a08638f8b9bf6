"""The published network from its features on, as users export it, and the step around such a graph.

A user's export begins at the log-mel features (icefall's and CED's do: a complex STFT is hard to export) and
has the published cache of hidden tokens as input and output. Two choices here favour such a peer. Its step
computes the features with PyTorch, in one thread, which is faster than numpy or what a device has; the
results also state the time of the features alone. And it starts from the published cache after silence.
Users start from zeros, which costs accuracy but no time; what that costs is stated apart (`zero_cache`).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, cast

import numpy as np
import torch
from torch import Tensor, nn

from benchmarks.peers.peer import Case, PeerStep
from satexport.models.families import make_reference
from satexport.models.sat.network import Transformer
from satexport.models.sat.reference import PyTorchStep
from satexport.step import FloatArray, Outputs

Run = Callable[[Sequence[FloatArray]], Sequence[FloatArray]]  # inputs to outputs of one pass


class FromFeatures(nn.Module):
    """The network from the log-mel spectrogram in decibels on."""

    def __init__(self, model: Transformer) -> None:
        super().__init__()
        self.model = model

    def forward(self, mel: Tensor, cache: Tensor | None = None) -> Tensor | tuple[Tensor, Tensor]:
        """mel: [1, 64, F], cache: [depth, 1, C, d]; returns the scores [1, classes], and the new cache if the
        model has one."""
        features = self.model.init_bn(mel.unsqueeze(2)).transpose(1, 2)
        logits, cache = self.model.logits(features, cache)
        return logits.sigmoid() if cache is None else (logits.sigmoid(), cache)


class FeatureStep(PeerStep):
    """A step that computes the features with PyTorch and the rest with `run`. `initial` is the initial cache;
    None for a model without a cache."""

    def __init__(self, model: Transformer, run: Run, initial: FloatArray | None) -> None:
        self._front_end, self._frames = model.front_end, model.variant.chunk_frames
        self._run, self._initial = run, initial

    def features(self, x: FloatArray) -> FloatArray:
        """Return the log-mel spectrogram [1, 64, F] of audio [1, samples]."""
        with torch.inference_mode():
            mel = self._front_end(torch.from_numpy(x))[..., :self._frames]
        return np.ascontiguousarray(mel.numpy())

    def zero_cache(self) -> FloatArray | None:
        """Return the cache that a user begins with."""
        return None if self._initial is None else np.zeros_like(self._initial)

    def __call__(self, x: FloatArray, cache: FloatArray | None) -> tuple[Outputs, FloatArray | None]:
        """Compute the scores of audio [1, samples], and the new cache."""
        inputs = [self.features(x), *([] if cache is None else [cache])]
        scores, *caches = self._run(inputs)
        return Outputs(scores), caches[0] if caches else None


def load_published(case: Case) -> PyTorchStep:
    """Return PyTorch's model of a case."""
    return cast(PyTorchStep, make_reference(case.load_weights()))


def load_step(case: Case, run: Run) -> FeatureStep:
    """Return the step of a case around the graph that `run` runs."""
    torch.set_num_threads(1)  # others would wait on the cores that the runtime needs
    model = load_published(case).model
    return FeatureStep(model, run, initial_of(example(model)))


def example(model: Transformer) -> tuple[Tensor, ...]:
    """Return inputs of `FromFeatures`: the features of silence, and the initial cache if the model has
    one."""
    with torch.inference_mode(False), torch.no_grad():
        mel = model.front_end(torch.zeros(1, model.variant.window_samples))[..., :model.variant.chunk_frames]
        cache = model.silence_cache()
    return (mel.clone(), *(() if cache is None else (cache.clone(),)))


def initial_of(inputs: Sequence[Any]) -> FloatArray | None:
    """Return the cache among the inputs of `FromFeatures` as numpy; None if there is none."""
    return np.asarray(inputs[1].numpy()) if len(inputs) > 1 else None
