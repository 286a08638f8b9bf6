"""The stream: the one object that holds a cache. Imports numpy and the bundle's runtime alone.

    tagger = satexport.load("build/sat-t-2s/onnx")
    stream = tagger.stream()
    for block in microphone:                     # any length, 16 kHz mono
        for scores in stream.feed(block):        # one row per chunk that became full
            print(tagger.top(scores, 3))
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from satexport.backends import FloatArray, Step, load_step
from satexport.bundle import Bundle, open_bundle
from satexport.contract import Contract
from satexport.errors import AudioError
from satexport.variants import PCM_SCALE

LOUDEST = 8.0  # full scale is 1; above this the samples are surely integers given as floats


class Stream:
    """One audio stream: feed samples as they come, get the scores of every full chunk.

    Several streams may share one step; each has its own cache and its own waiting samples.
    """

    def __init__(self, step: Step, contract: Contract) -> None:
        self._step = step
        self._contract = contract
        self.reset()

    def reset(self) -> None:
        """Begin again from silence; waiting samples are dropped."""
        self._cache = self._step.initial_cache()
        self._waiting: FloatArray = np.empty(0, np.float32)

    @property
    def waiting(self) -> int:
        """Samples that wait for their chunk to become full."""
        return len(self._waiting)

    def feed(self, samples: ArrayLike) -> FloatArray:
        """Add samples [n], n >= 0, 16 kHz mono: floats in [-1, 1] or int16.

        Returns the scores [chunks that became full, classes], float32 in (0, 1), each class by
        itself. Raises `AudioError` for NaN, infinity or a wrong shape or dtype; the stream is
        then as it was before.
        """
        audio = np.concatenate((self._waiting, self._checked(samples)))
        size = self._contract.chunk_samples
        full = len(audio) // size
        cache, scores = self._cache, np.empty((full, self._contract.classes), np.float32)
        for number, chunk in enumerate(audio[:full * size].reshape(full, size)):
            scores[number], cache = self._step(chunk, cache)
        self._cache, self._waiting = cache, audio[full * size:]
        return scores

    def flush(self) -> FloatArray:
        """Score what waits, padded with zeros to a full chunk: [1, classes], or [0, classes]
        where nothing waits."""
        missing = -len(self._waiting) % self._contract.chunk_samples
        return self.feed(np.zeros(missing, np.float32))

    def _checked(self, samples: ArrayLike) -> FloatArray:
        audio: NDArray[Any] = np.asarray(samples)
        rate = f"{self._contract.sample_rate} Hz mono"
        if audio.ndim != 1:
            raise AudioError(f"the samples have shape {audio.shape}, expected [n], {rate}. "
                             "Average the channels first.")
        if audio.dtype == np.int16:
            return np.asarray(audio / np.float32(PCM_SCALE), np.float32)
        if audio.dtype.kind != "f" and audio.size:
            raise AudioError(f"the samples are {audio.dtype}, expected floats in [-1, 1] or int16.")
        peak = float(np.abs(audio).max(initial=0.0))  # NaN and infinity show here, too
        if not peak <= LOUDEST:
            found = f"reach {peak:g}" if np.isfinite(peak) else "contain NaN or infinity"
            raise AudioError(f"the samples {found}, expected floats in [-1, 1]. "
                             "The stream is as it was before them.")
        return np.asarray(audio, np.float32)


class Tagger:
    """A loaded bundle: its labels, its contract, and as many streams as wanted."""

    def __init__(self, bundle: Bundle, step: Step) -> None:
        self.bundle = bundle
        self.contract = bundle.contract
        self.labels = bundle.labels
        self.step = step

    def stream(self) -> Stream:
        """Return a new stream that starts from silence."""
        return Stream(self.step, self.contract)

    def top(self, scores: FloatArray, count: int = 3) -> list[tuple[str, float]]:
        """The labels with the highest scores of one chunk [classes], best first."""
        order = np.argsort(-scores, kind="stable")[:count]
        return [(self.labels[i], float(scores[i])) for i in order]


def load(path: str | Path, threads: int | None = None) -> Tagger:
    """Load a bundle: every part is checked against its SHA-256.

    `threads` overrides the target's number (0: the runtime decides). Raises `BundleError` for a
    folder that is no bundle or was changed, `MissingError` where the runtime is not installed.
    """
    bundle = open_bundle(path)
    return Tagger(bundle, load_step(bundle, threads))
