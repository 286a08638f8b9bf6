"""Audio streams, the only objects that hold a cache or earlier audio. Imports only numpy and the bundle's
runtime.

    tagger = satexport.load("build/sat-t-2s/onnx")
    stream = tagger.stream()
    for block in microphone:                     # any length, mono, at the contract's sample rate
        for scores in stream.feed(block):        # one row per completed chunk
            print(tagger.top(scores, 3))

A bundle for several streams (`--streams`) processes several microphones in one step:

    streams = tagger.streams()
    for blocks in microphones:                   # [N, n]
        for scores in streams.feed(blocks):      # [N, classes] per completed chunk
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
from satexport.step import MAX_AMPLITUDE, PCM_SCALE, FloatArray, Step
from satexport.tagging.window import Windows

QUIETEST = 1e-11  # samples below this are set to 0: they change no score, but their squares are subnormal
                  # numbers, which make many CPUs a hundred times slower


class StreamBatch(ProcessBound):
    """N independent audio streams that run together: feed equally many samples of each, get the scores of
    every completed chunk. Use it from one thread at a time, in the process that loaded the bundle; otherwise
    it raises `UsageError`."""

    def __init__(self, step: Step, contract: Contract, count: int = 1) -> None:
        super().__init__()
        self._step = step
        self._contract = contract
        self._count = count
        self._in_use = threading.Lock()
        self.reset()

    def __len__(self) -> int:
        return self._count

    @property
    def hop_samples(self) -> int:
        return self._contract.hop_samples

    def reset(self, stream: int | None = None) -> None:
        """Restart all streams, or one of them, from silence, and drop the waiting samples. The waiting
        samples of a single stream are replaced by silence, so that it stays in step with the others. Raises
        `UsageError` if there is no such stream; they count from 0."""
        if stream is not None and stream not in range(self._count):
            raise UsageError(f"there is no stream {stream}; expected 0 to {self._count - 1}.")
        with self._exclusive():
            if stream is None:
                self._cache = self._step.initial_cache(self._count)
                self._windows = Windows(self._contract, self._count)
                self._waiting: FloatArray = np.empty((self._count, 0), np.float32)
                self._scores: list[FloatArray] = []  # of chunks completed before a step failed
            else:
                self._cache = self._step.silence(self._cache, stream)
                self._windows.reset(stream)
                self._waiting[stream] = 0

    @property
    def waiting(self) -> int:
        """Samples per stream that wait for the rest of their chunk, or for a retry after a failed step."""
        return int(self._waiting.shape[1])

    def feed(self, samples: ArrayLike, sample_rate: int | None = None) -> FloatArray:
        """Add samples [N, n], n >= 0, at the contract's sample rate: floats in [-1, 1] or int16. If you state
        their `sample_rate`, in Hz, it is checked.

        Returns the scores [completed chunks, N, classes], float32 in (0, 1), independent for each class.
        Raises `AudioError` for another sample rate, NaN, infinity or a wrong shape or dtype, and leaves the
        streams unchanged.
        Raises `RunError` if a step fails. No samples are lost then: the next call tries the failed chunk
        again, and also returns the scores of the chunks before it.
        """
        _check_rate(sample_rate, self._contract.sample_rate)
        audio = _to_array(samples)
        if audio.ndim != 2 or len(audio) != self._count:
            raise AudioError(f"the samples have shape {audio.shape}, expected [{self._count}, n], equally "
                             "many for each stream.")
        new = _to_float(audio)
        with self._exclusive():
            audio = np.concatenate((self._waiting, new), axis=1)
            size = self._contract.hop_samples
            complete = audio.shape[1] // size
            for number in range(complete):
                self._waiting = audio[:, number * size:]  # if the step fails, its chunk still waits
                windows = self._windows.end_with(self._waiting[:, :size])
                outputs, self._cache = self._step(model_input(self._contract, windows), self._cache)
                self._windows.advance(windows)
                self._scores.append(outputs.scores)
            self._waiting = audio[:, complete * size:].copy()
            results, self._scores = self._scores, []
        return np.array(results, np.float32).reshape(-1, self._count, self._contract.classes)

    def flush(self) -> FloatArray:
        """Score the waiting samples, padded with zeros to whole chunks: [1, N, classes], or [0, N, classes]
        if none wait. After a failed step more than one chunk may wait. Raises as `feed` does."""
        missing = -self.waiting % self._contract.hop_samples
        return self.feed(np.zeros((self._count, missing), np.float32))

    @contextmanager
    def _exclusive(self) -> Iterator[None]:
        """Allow only this process and one thread: another would mix two sounds into one cache."""
        self.check_process()
        if not self._in_use.acquire(blocking=False):
            raise UsageError("another thread is using this stream; expected one thread per stream. Create a "
                             "stream for each sound, or use a lock if several threads feed the same sound.")
        try:
            yield
        finally:
            self._in_use.release()


class Stream(ProcessBound):
    """One audio stream: feed samples as they arrive, get the scores of every completed chunk.

    Several streams can share one step, also in several threads; each has its own cache and waiting samples.
    Use a stream from one thread at a time, and not in a forked process; otherwise it raises `UsageError`. If
    the graph has a fixed number of streams, this one takes the first slot and the others get silence.
    """

    def __init__(self, step: Step, contract: Contract) -> None:
        super().__init__()
        self._contract = contract
        self._streams = StreamBatch(step, contract, max(1, contract.options.streams))

    def reset(self) -> None:
        """Restart from silence and drop the waiting samples."""
        self._streams.reset()

    @property
    def waiting(self) -> int:
        """Samples that wait for the rest of their chunk, or for a retry after a failed step."""
        return self._streams.waiting

    def feed(self, samples: ArrayLike, sample_rate: int | None = None) -> FloatArray:
        """Add samples [n], n >= 0, mono, at the contract's sample rate: floats in [-1, 1] or int16. If you
        state their `sample_rate`, in Hz, it is checked.

        Returns the scores [completed chunks, classes], float32 in (0, 1), independent for each class. Raises
        `AudioError` for another sample rate, NaN, infinity or a wrong shape or dtype, and leaves the stream
        unchanged. Raises `RunError` if a step fails. No samples are lost then: the next call tries the failed
        chunk again, and also returns the scores of the chunks before it.
        """
        _check_rate(sample_rate, self._contract.sample_rate)
        audio = _to_array(samples)
        if audio.ndim != 1:
            raise AudioError(f"the samples have shape {audio.shape}, expected [n], "
                             f"{self._contract.sample_rate} Hz mono. Average the channels first.")
        audio = _to_float(audio)
        if len(self._streams) == 1:
            return self._streams.feed(audio[None])[:, 0]
        slots = np.zeros((len(self._streams), len(audio)), np.float32)
        slots[0] = audio
        return self._streams.feed(slots)[:, 0]

    def flush(self) -> FloatArray:
        """Score the waiting samples, padded with zeros to whole chunks: [1, classes], or [0, classes] if none
        wait. After a failed step more than one chunk may wait. Raises as `feed` does."""
        return self._streams.flush()[:, 0]


def _check_rate(stated: int | None, expected: int) -> None:
    if stated not in (None, expected):
        raise AudioError(f"the samples are at {stated} Hz, expected {expected} Hz: resample them first, as "
                         "`satexport run` does.")


def _to_array(samples: ArrayLike) -> NDArray[Any]:
    """The samples as an array of any shape and dtype. Raises `AudioError` if that is impossible."""
    try:
        return np.asarray(samples)
    except ValueError as error:  # lists of different lengths
        raise AudioError(f"the samples are not an array ({error}); expected equally many for each "
                         "stream.") from None


def _to_float(audio: NDArray[Any]) -> FloatArray:
    """The samples as float32 in [-1, 1]. Raises `AudioError` if they are not audio."""
    if (audio.dtype.kind, audio.dtype.itemsize) == ("i", 2):  # in either byte order
        return np.asarray(audio / np.float32(PCM_SCALE), np.float32)
    if audio.dtype.kind != "f" and audio.size:
        raise AudioError(f"the samples are {audio.dtype}, expected floats in [-1, 1] or int16.")
    peak = float(np.abs(audio).max(initial=0.0))  # also detects NaN and infinity
    if not peak <= MAX_AMPLITUDE:
        found = f"reach {peak:g}" if np.isfinite(peak) else "contain NaN or infinity"
        raise AudioError(f"the samples {found}, expected floats in [-1, 1]. The stream was not changed.")
    audio = audio.astype(np.float32)
    audio[np.abs(audio) < QUIETEST] = 0
    return audio


def clip_chunks(streams: StreamBatch, clips: Sequence[FloatArray]) -> list[FloatArray]:
    """Scores of each clip's chunks [chunks, classes]. Each clip starts from silence in a stream of its own,
    and its last chunk is padded; there must be at least as many streams as clips."""
    streams.reset()
    audio = np.zeros((len(streams), max(len(clip) for clip in clips)), np.float32)
    for slot, clip in zip(audio, clips, strict=False):
        slot[:len(clip)] = clip
    scores = np.concatenate((streams.feed(audio), streams.flush()))
    size = streams.hop_samples
    return [scores[:-(-len(clip) // size), slot] for slot, clip in enumerate(clips)]
