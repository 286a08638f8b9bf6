"""The stream: the one object that holds a cache. Imports numpy and the bundle's runtime alone.

    tagger = satexport.load("build/sat-t-2s/onnx")
    stream = tagger.stream()
    for block in microphone:                     # any length, mono, at the contract's rate
        for scores in stream.feed(block):        # one row per chunk that became full
            print(tagger.top(scores, 3))

A bundle for several streams (`--streams`) runs many microphones in one step:

    streams = tagger.streams()
    for blocks in microphones:                   # [N, n]
        for scores in streams.feed(blocks):      # [N, classes] per chunk that became full
            ...
"""

from __future__ import annotations

import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from satexport.bundle.contract import Contract
from satexport.errors import AudioError, UsageError
from satexport.frontends.prepare import model_input
from satexport.process import ProcessBound
from satexport.step import LOUDEST, PCM_SCALE, FloatArray, Step

QUIETEST = 1e-11  # a sample below this becomes 0: it changes no score, but its square is a subnormal number,
                  # with which many CPUs compute a hundred times as slowly


class StreamBatch(ProcessBound):
    """N audio streams heard together: feed as many samples of each, get the scores of every chunk
    that became full. No stream hears another. One thread at a time may use them, in the process that loaded
    the bundle; others raise `UsageError`."""

    def __init__(self, step: Step, contract: Contract, count: int = 1) -> None:
        super().__init__()
        self._step = step
        self._contract = contract
        self._count = count
        self._used = threading.Lock()
        self.reset()

    def __len__(self) -> int:
        return self._count

    @property
    def hop_samples(self) -> int:
        return self._contract.hop_samples

    def reset(self, stream: int | None = None) -> None:
        """Begin again from silence and drop the waiting samples: all streams, or one, which then
        hears silence in place of its waiting samples, so that it stays in step with the others.
        Raises `UsageError` where there is no such stream; they count from 0."""
        if stream is not None and stream not in range(self._count):
            raise UsageError(f"there is no stream {stream}; expected 0 to {self._count - 1}.")
        with self._alone():
            if stream is None:
                self._cache = self._step.initial_cache(self._count)
                self._waiting: FloatArray = np.empty((self._count, 0), np.float32)
                self._scores: list[FloatArray] = []  # of chunks that were heard before a step failed
            else:
                self._cache = self._step.silence(self._cache, stream)
                self._waiting[stream] = 0

    @property
    def waiting(self) -> int:
        """Samples of each stream that wait for their chunk to become full, or that a failed step left."""
        return int(self._waiting.shape[1])

    def feed(self, samples: ArrayLike) -> FloatArray:
        """Add samples [N, n], n >= 0, at the contract's sample rate: floats in [-1, 1] or int16.

        Returns the scores [chunks that became full, N, classes], float32 in (0, 1), each class by
        itself. Raises `AudioError` for NaN, infinity or a wrong shape or dtype; the streams are
        then as they were before. Raises `RunError` where a step fails. Nothing is lost then: its chunk
        and what follows it wait, and the next call returns the scores of the chunks before it, too.
        """
        audio = _array(samples)
        if audio.ndim != 2 or len(audio) != self._count:
            raise AudioError(f"the samples have shape {audio.shape}, expected [{self._count}, n]: "
                             "as many of each stream.")
        checked = _checked(audio)
        with self._alone():
            audio = np.concatenate((self._waiting, checked), axis=1)
            size = self._contract.hop_samples
            full = audio.shape[1] // size
            for number in range(full):
                self._waiting = audio[:, number * size:]  # a chunk whose step fails has not been heard
                x = model_input(self._contract, self._waiting[:, :size])
                scores, self._cache = self._step(x, self._cache)
                self._scores.append(scores)
            self._waiting = audio[:, full * size:].copy()
            found, self._scores = self._scores, []
        return np.array(found, np.float32).reshape(-1, self._count, self._contract.classes)

    def flush(self) -> FloatArray:
        """Score what waits, padded with zeros to full chunks, as `feed` does: [1, N, classes], or
        [0, N, classes] where nothing waits. After a failed step more than a chunk may wait."""
        missing = -self.waiting % self._contract.hop_samples
        return self.feed(np.zeros((self._count, missing), np.float32))

    @contextmanager
    def _alone(self) -> Iterator[None]:
        """For this process and this thread alone: another would mix two sounds into one cache."""
        self.check_process()
        if not self._used.acquire(blocking=False):
            raise UsageError("another thread uses this stream right now; expected one thread per stream. "
                             "Take a stream for each sound, or a lock around what several threads bring.")
        try:
            yield
        finally:
            self._used.release()


class Stream(ProcessBound):
    """One audio stream: feed samples as they come, get the scores of every full chunk.

    Several streams may share one step, also in several threads; each has its own cache and its own waiting
    samples. One thread per stream: a second one at a time raises `UsageError`, and so does a forked process.
    Under a graph for a fixed number of streams it is the first of them and the others hear silence.
    """

    def __init__(self, step: Step, contract: Contract) -> None:
        super().__init__()
        self._contract = contract
        self._streams = StreamBatch(step, contract, max(1, contract.options.streams))

    def reset(self) -> None:
        """Begin again from silence; waiting samples are dropped."""
        self._streams.reset()

    @property
    def waiting(self) -> int:
        """Samples that wait for their chunk to become full, or that a failed step left."""
        return self._streams.waiting

    def feed(self, samples: ArrayLike) -> FloatArray:
        """Add samples [n], n >= 0, mono, at the contract's sample rate: floats in [-1, 1] or int16.

        Returns the scores [chunks that became full, classes], float32 in (0, 1), each class by
        itself. Raises `AudioError` for NaN, infinity or a wrong shape or dtype; the stream is
        then as it was before. Raises `RunError` where a step fails. Nothing is lost then: its chunk and
        what follows it wait, and the next call returns the scores of the chunks before it, too.
        """
        audio = _array(samples)
        if audio.ndim != 1:
            raise AudioError(f"the samples have shape {audio.shape}, expected [n], "
                             f"{self._contract.sample_rate} Hz mono. Average the channels first.")
        audio = _checked(audio)
        if len(self._streams) == 1:
            return self._streams.feed(audio[None])[:, 0]
        lanes = np.zeros((len(self._streams), len(audio)), np.float32)
        lanes[0] = audio
        return self._streams.feed(lanes)[:, 0]

    def flush(self) -> FloatArray:
        """Score what waits, padded with zeros to full chunks, as `feed` does: [1, classes], or
        [0, classes] where nothing waits. After a failed step more than a chunk may wait."""
        return self._streams.flush()[:, 0]


def _array(samples: ArrayLike) -> NDArray[Any]:
    """The samples as an array of whatever shape and dtype. Raises `AudioError` where they are none."""
    try:
        return np.asarray(samples)
    except ValueError as error:  # lists of different lengths
        raise AudioError(f"the samples are no array ({error}); expected as many of each stream.") from None


def _checked(audio: NDArray[Any]) -> FloatArray:
    """The samples as float32 in [-1, 1]; raises `AudioError` where they are no audio."""
    if (audio.dtype.kind, audio.dtype.itemsize) == ("i", 2):  # of either byte order
        return np.asarray(audio / np.float32(PCM_SCALE), np.float32)
    if audio.dtype.kind != "f" and audio.size:
        raise AudioError(f"the samples are {audio.dtype}, expected floats in [-1, 1] or int16.")
    peak = float(np.abs(audio).max(initial=0.0))  # NaN and infinity show here, too
    if not peak <= LOUDEST:
        found = f"reach {peak:g}" if np.isfinite(peak) else "contain NaN or infinity"
        raise AudioError(f"the samples {found}, expected floats in [-1, 1]. "
                         "The stream is as it was before them.")
    audio = audio.astype(np.float32)
    audio[np.abs(audio) < QUIETEST] = 0
    return audio


def clip_chunks(streams: StreamBatch, clips: Sequence[FloatArray]) -> list[FloatArray]:
    """Scores of each clip's chunks [chunks, classes], from silence, its last chunk padded; the clips
    are heard together, at most one by each stream."""
    streams.reset()
    audio = np.zeros((len(streams), max(len(clip) for clip in clips)), np.float32)
    for lane, clip in zip(audio, clips, strict=False):
        lane[:len(clip)] = clip
    scores = np.concatenate((streams.feed(audio), streams.flush()))
    size = streams.hop_samples
    return [scores[:-(-len(clip) // size), lane] for lane, clip in enumerate(clips)]
