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

With `outputs` they return several arrays, here those of a bundle that was exported with `--embedding`:

    scores, embeddings = stream.feed(block, outputs=("scores", "embedding"))
"""

from __future__ import annotations

import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import numpy as np
from numpy.typing import ArrayLike

from satexport.bundle.contract import Contract
from satexport.errors import AudioError, UsageError
from satexport.frontends.prepare import model_input
from satexport.step import FloatArray, Outputs, Step
from satexport.tagging.feed import Feed
from satexport.tagging.samples import check_rate, to_array, to_float
from satexport.tagging.window import Windows


class StreamBatch(Feed):
    """N independent audio streams that run together: feed equally many samples of each, get the scores of
    every completed chunk. Use it from one thread at a time, in the process that loaded the bundle; otherwise
    it raises `UsageError`."""

    def __init__(self, step: Step, contract: Contract, count: int = 1) -> None:
        super().__init__()
        self._step = step
        self._contract = contract
        self._count, self._hop = count, contract.hop_samples
        self._none = Outputs(*(np.empty((0, count, spec.shape[1]), np.float32) for spec in contract.outputs))
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
        `UsageError` if there is no such stream; they count from 0. Raises `RunError` if a step failed in some
        of several requests of OpenVINO, but not in that of this stream: first let `feed` try it again."""
        if stream is not None and stream not in range(self._count):
            raise UsageError(f"there is no stream {stream}; expected 0 to {self._count - 1}.")
        with self._exclusive():
            if stream is None:
                self._cache = self._step.initial_cache(self._count)
                self._windows = Windows(self._contract, self._count)
                self._keep([])
                self._outputs: list[Outputs] = []  # of chunks completed before a step failed
            else:
                self._cache = self._step.silence(self._cache, stream)
                self._windows.reset(stream)
                for part in self._parts:
                    part[stream] = 0

    @property
    def waiting(self) -> int:
        """Samples per stream that wait for the rest of their chunk, or for a retry after a failed step."""
        return self._waiting

    def feed_all(self, samples: ArrayLike, sample_rate: int | None = None) -> Outputs:
        """Add samples [N, n] as `feed` does, and return all outputs, [completed chunks, N, ...] each."""
        check_rate(sample_rate, self._contract.sample_rate)
        audio = to_array(samples)
        if audio.ndim != 2 or len(audio) != self._count:
            raise AudioError(f"the samples have shape {audio.shape}, expected [{self._count}, n], equally "
                             "many for each stream.")
        return self.add(to_float(audio))

    def add(self, audio: FloatArray) -> Outputs:
        """Add checked samples [N, n], which nobody else changes, and return as `feed_all` does."""
        with self._exclusive():
            if audio.size:
                self._parts.append(audio)
                self._waiting += audio.shape[1]
            if self._waiting >= self._hop:
                self._run_steps()
            results, self._outputs = self._outputs, []
        return Outputs.join(np.stack, results) if results else self._none

    def flush_all(self) -> Outputs:
        """Score the waiting samples as `flush` does, and return all outputs, [1, N, ...] each."""
        missing = -self.waiting % self._contract.hop_samples
        return self.feed_all(np.zeros((self._count, missing), np.float32))

    def _run_steps(self) -> None:
        """Score the waiting chunks."""
        audio, size = np.concatenate(self._parts, axis=1), self._hop
        complete = audio.shape[1] // size
        for number in range(complete):
            self._keep([audio[:, number * size:]])  # if the step fails, its chunk still waits
            windows = self._windows.end_with(audio[:, number * size:(number + 1) * size])
            outputs, self._cache = self._step(model_input(self._contract, windows), self._cache)
            self._windows.advance(windows)
            self._outputs.append(outputs)
        self._keep([audio[:, complete * size:].copy()])

    def _keep(self, parts: list[FloatArray]) -> None:
        """Let these samples wait; they are joined once they complete a chunk."""
        self._parts = parts
        self._waiting: int = sum(part.shape[1] for part in parts)  # samples per stream

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


class Stream(Feed):
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

    def feed_all(self, samples: ArrayLike, sample_rate: int | None = None) -> Outputs:
        """Add samples [n] as `feed` does, and return all outputs, [completed chunks, ...] each."""
        check_rate(sample_rate, self._contract.sample_rate)
        audio = to_array(samples)
        if audio.ndim != 1:
            raise AudioError(f"the samples have shape {audio.shape}, expected [n], "
                             f"{self._contract.sample_rate} Hz mono. Average the channels first.")
        audio = to_float(audio)
        slots = audio[None]
        if len(self._streams) > 1:
            slots = np.zeros((len(self._streams), len(audio)), np.float32)
            slots[0] = audio
        return self._streams.add(slots).map(_first_slot)

    def flush_all(self) -> Outputs:
        """Score the waiting samples as `flush` does, and return all outputs, [1, ...] each."""
        return self._streams.flush_all().map(_first_slot)


def _first_slot(array: FloatArray) -> FloatArray:
    return array[:, 0]


def clip_chunks(streams: StreamBatch, clips: Sequence[FloatArray]) -> list[FloatArray]:
    """Scores of each clip's chunks [chunks, classes], as `clip_outputs` computes them."""
    return [outputs.scores for outputs in clip_outputs(streams, clips)]


def clip_outputs(streams: StreamBatch, clips: Sequence[FloatArray]) -> list[Outputs]:
    """Outputs of each clip's chunks, [chunks, ...] each. Each clip starts from silence in a stream of its
    own, and its last chunk is padded; there must be at least as many streams as clips."""
    streams.reset()
    audio = np.zeros((len(streams), max(len(clip) for clip in clips)), np.float32)
    for slot, clip in zip(audio, clips, strict=False):
        slot[:len(clip)] = clip
    outputs = Outputs.join(np.concatenate, [streams.feed_all(audio), streams.flush_all()])
    size = streams.hop_samples

    def of_clip(slot: int, chunks: int) -> Outputs:
        return outputs.map(lambda array: array[:chunks, slot])

    return [of_clip(slot, -(-len(clip) // size)) for slot, clip in enumerate(clips)]
