"""Calibration: collect inputs of steps, from which a quantiser later finds activation ranges.

Single chunks are not enough to calibrate a step: its activations depend on the cache, and the cache depends
on all earlier chunks. So the clips of a calibration set are joined into streams, the fp32 graph processes
them from silence on, and chunks at random positions are sampled together with the cache at that position:
some right after silence, most with a full history. If the graph takes a window longer than a chunk, samples
are whole windows; those at the beginning of a stream begin with silence.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnx

from satexport.audio.clips import Clip, ClipHash
from satexport.bundle.contract import Contract
from satexport.bundle.folder import Bundle
from satexport.errors import DataError
from satexport.frontends.prepare import model_input
from satexport.progress import progress
from satexport.quantize.calibration_set import MIN_SAMPLES, CalibrationSet, calibration_clips
from satexport.quantize.observe import Observer, Sample, samples_together
from satexport.step import FloatArray
from satexport.tagging.window import Windows

SILENCE_PEAK = 1e-4     # a clip with a lower peak counts as silent: -80 dBFS
MAX_CLIP_SECONDS = 300
MAX_SECONDS = 3600      # of all clips together; more only takes longer


@dataclass(frozen=True)
class Calibration:
    """Inputs of steps, sampled from a calibration set."""

    samples: list[Sample]
    clip_hashes: tuple[str, ...]      # SHA-256 of each clip's audio; none of them may gate
    origin: dict[str, Any]


def calibrate(bundle: Bundle, calibration_set: CalibrationSet, data: Path | None = None,
              observer: Observer | None = None) -> Calibration:
    """Run an fp32 bundle on a calibration set and return sampled inputs of its steps.

    `data` is the folder of the recordings, if the set does not name one. `observer` runs the bundle's graph;
    if the model has a cache, it has noted its tensors at the sampled steps afterwards. Raises `DataError` if
    there are too few clips, all clips are silent, or the set cannot be used; `AudioError` if a clip cannot be
    read.
    """
    size, lanes = bundle.contract.hop_samples, max(1, bundle.contract.options.streams)
    rate = bundle.contract.sample_rate
    random = np.random.default_rng(calibration_set.seed)
    if not observer and bundle.contract.cache_in:  # without a cache no step depends on an earlier one
        observer = Observer(onnx.load(bundle.graph))  # which loads while the clips are read
    sounds, hashes, silent = read_clips(calibration_clips(calibration_set, data), rate)
    streams = list(chain_clips(sounds, calibration_set.stream_seconds, rate))
    positions = [(number, chunk) for number, audio in enumerate(streams)
                 for chunk in range(len(audio) // size)]
    if (chunks := sum(map(len, sounds)) // size) < MIN_SAMPLES:
        raise DataError(f"calibration set {calibration_set.name}: {len(hashes)} clips give {chunks} chunks "
                        f"of {bundle.contract.hop_seconds:g} s, expected at least {MIN_SAMPLES}. Add clips.")
    count = -(-calibration_set.samples // lanes)
    sampled = {positions[i] for i in random.permutation(len(positions))[:count]}
    sampled |= {(number, 0) for number in range(len(streams))}  # every stream starts from silence
    samples = _run_streams(bundle, observer, streams, sampled)
    facts = dataclasses.asdict(calibration_set)
    del facts["folder"]  # a bundle contains no paths
    origin = {**facts, "clips": len(hashes), "silent_clips_left_out": silent,
              "streams": len(streams), "samples": len(samples)}
    return Calibration(samples, tuple(hashes), origin)


def _run_streams(bundle: Bundle, observer: Observer | None, streams: Sequence[FloatArray],
                 sampled: set[tuple[int, int]]) -> list[Sample]:
    """Run each stream up to the last of its sampled chunks and return the samples in the order of `sampled`,
    sorted pairs of stream and chunk number."""
    contract = bundle.contract
    last = {number: max(chunk for stream, chunk in sampled if stream == number)
            for number in range(len(streams))}
    order = sorted(last, key=lambda number: -last[number])  # streams of similar length run together
    groups = -(-len(order) // samples_together(contract))
    found: dict[tuple[int, int], Sample] = {}
    with progress("calibrate", sum(last.values()) + len(last)) as advance:
        for numbers in np.array_split(order, groups):
            group = [_Stream(number, contract, streams[number], last[number]) for number in numbers]
            _run_group(bundle, observer, group, sampled, found, advance)
    return [found[place] for place in sorted(found)]


def _run_group(bundle: Bundle, observer: Observer | None, group: Sequence[_Stream],
               sampled: set[tuple[int, int]], found: dict[tuple[int, int], Sample],
               advance: Callable[[int], None]) -> None:
    """Run streams together, the longest first, and add their samples to `found`."""
    contract, lanes = bundle.contract, max(1, bundle.contract.options.streams)
    caches = [np.repeat(array, lanes * len(group), 0) for array in bundle.initial_cache()]
    names = [spec.name for spec in (contract.input, *contract.cache_in)]
    for chunk in range(group[0].last + 1):
        group = [stream for stream in group if chunk <= stream.last]
        x = model_input(contract, np.concatenate([stream.windows(chunk) for stream in group]))
        inputs = {name: array[:lanes * len(group)] for name, array in zip(names, (x, *caches), strict=True)}
        noted = [(stream.number, chunk) in sampled for stream in group]
        for row in np.flatnonzero(noted):
            found[group[row].number, chunk] = {
                name: array[lanes * row:lanes * (row + 1)].copy() for name, array in inputs.items()}
        if contract.cache_in and observer:
            outputs = observer.run(inputs, noted)
            caches = [outputs[spec.name] for spec in contract.cache_out]
        advance(len(group))


class _Stream:
    """One stream of a calibration. If the graph runs several streams at once, each starts at another chunk of
    the same audio."""

    def __init__(self, number: int, contract: Contract, audio: FloatArray, last: int) -> None:
        size, lanes = contract.hop_samples, max(1, contract.options.streams)
        self.number, self.last = number, last  # of its chunks that are sampled
        self._chunks = audio[:len(audio) // size * size].reshape(-1, size)
        self._first = np.arange(lanes) * len(self._chunks) // lanes
        self._windows = Windows(contract, lanes)

    def windows(self, chunk: int) -> FloatArray:
        """Return the windows [lanes, window_samples] that end with the next chunk."""
        windows = self._windows.end_with(self._chunks[(self._first + chunk) % len(self._chunks)])
        self._windows.advance(windows)
        return windows


def read_clips(clips: Sequence[Clip], rate: int) -> tuple[list[FloatArray], list[str], int]:
    """Read clips at a sample rate, up to MAX_SECONDS in total; returns the audio of each clip, the hashes,
    and the number of silent clips, which are left out. Only the first MAX_CLIP_SECONDS of a clip are used and
    kept in memory. Raises `DataError` if all clips are silent."""
    sounds, hashes, silent, seconds = [], [], 0, 0.0
    for clip in clips:
        audio, digest = _read_start(clip, rate)
        if is_silent(audio):
            silent += 1
            continue
        sounds.append(audio)
        hashes.append(digest)
        seconds += len(audio) / rate
        if seconds >= MAX_SECONDS:
            break
    if not sounds:
        raise DataError(f"all {silent} clips of the calibration set are silent (peak below "
                        f"{SILENCE_PEAK:g}). Use recordings with sound.")
    return sounds, hashes, silent


def _read_start(clip: Clip, rate: int) -> tuple[FloatArray, str]:
    """Return the first MAX_CLIP_SECONDS of a clip, and the hash of the whole clip."""
    digest, parts, missing = ClipHash(), [], MAX_CLIP_SECONDS * rate
    for block in clip.blocks(rate):
        digest.update(block)
        if missing:
            parts.append(block[:missing])
            missing -= len(parts[-1])
    return np.concatenate(parts), digest.hexdigest()


def is_silent(audio: FloatArray) -> bool:
    """Whether a clip has nothing to calibrate on. Also, silent clips of different sets would have equal
    hashes."""
    return float(np.abs(audio).max(initial=0.0)) < SILENCE_PEAK


def chain_clips(sounds: Sequence[FloatArray], seconds: float, rate: int) -> Iterator[FloatArray]:
    """Join clips into streams of at least `seconds`; a last stream that would be shorter is filled up with
    clips from the start of the list."""
    min_length = round(seconds * rate)
    parts: list[FloatArray] = []
    for sound in sounds:
        parts.append(sound)
        if sum(map(len, parts)) >= min_length:
            yield np.concatenate(parts)
            parts = []
    count = len(parts)
    while parts and sum(map(len, parts)) < min_length:
        parts.append(sounds[(len(parts) - count) % len(sounds)])
    if parts:
        yield np.concatenate(parts)
