"""Calibrate: what a graph's tensors hold while streams run, for a quantiser to find ranges in.

A step cannot be calibrated on chunks alone: what it sees depends on the cache, and a cache on
everything before. So the clips of a calibration set are chained into streams, the fp32 graph runs
over them from silence, and chunks at random positions are taken together with the cache that they
met: some right after silence, most with a full history.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from satexport.audio.clips import Clip, ClipHash
from satexport.backends.onnxruntime.step import OnnxRuntimeStep
from satexport.bundle.folder import Bundle
from satexport.errors import DataError
from satexport.frontends.prepare import model_input
from satexport.progress import progress
from satexport.quantize.calibration_set import LEAST_SAMPLES, CalibrationSet, calibration_clips
from satexport.step import FloatArray

SILENT = 1e-4           # largest sample of a clip that holds nothing to calibrate on, -80 dBFS
MOST_OF_A_CLIP = 300    # s
MOST = 3600             # s, of all clips together; more only takes longer
Sample = dict[str, NDArray[Any]]  # a graph's inputs by name


@dataclass(frozen=True)
class Calibration:
    """Inputs of steps that a set gave, and where they come from."""

    samples: list[Sample]
    clip_hashes: tuple[str, ...]      # SHA-256 of each clip's samples: what must not gate
    origin: dict[str, Any]


def calibrate(bundle: Bundle, chosen: CalibrationSet, data: Path | None = None) -> Calibration:
    """Run an fp32 bundle over a set and return the inputs of the steps that were taken.

    `data` is the folder of the recordings where the set does not say it. Raises `DataError` where
    there are too few clips, all are silent, or the set cannot be used, `AudioError` where one cannot be
    read.
    """
    size, lanes = bundle.contract.hop_samples, max(1, bundle.contract.options.streams)
    rate = bundle.contract.sample_rate
    random = np.random.default_rng(chosen.seed)
    sounds, hashes, silent = read_clips(calibration_clips(chosen, data), rate)
    streams = list(chain_clips(sounds, chosen.stream_seconds, rate))
    positions = [(number, chunk) for number, audio in enumerate(streams)
                 for chunk in range(len(audio) // size)]
    if (there := sum(map(len, sounds)) // size) < LEAST_SAMPLES:
        raise DataError(f"calibration set {chosen.name}: {len(hashes)} clips give {there} chunks of "
                        f"{bundle.contract.hop_seconds:g} s, at least {LEAST_SAMPLES} are needed. Add clips.")
    count = -(-chosen.samples // lanes)
    taken = {positions[i] for i in random.permutation(len(positions))[:count]}
    taken |= {(number, 0) for number in range(len(streams))}  # silence is what every stream starts from
    samples = list(_roll(bundle, streams, taken))
    facts = dataclasses.asdict(chosen)
    del facts["folder"]  # a bundle knows no paths
    origin = {**facts, "clips": len(hashes), "silent_clips_left_out": silent,
              "streams": len(streams), "samples": len(samples)}
    return Calibration(samples, tuple(hashes), origin)


def _roll(bundle: Bundle, streams: Sequence[FloatArray], taken: set[tuple[int, int]]) -> Iterator[Sample]:
    """Run each stream to the last of its chunks that are taken. The lanes of a graph for several streams
    hear it from different chunks on."""
    contract, size = bundle.contract, bundle.contract.hop_samples
    step = OnnxRuntimeStep(bundle.graph, contract, bundle.initial_cache())
    lanes = max(1, contract.options.streams)
    last = {number: max(chunk for stream, chunk in taken if stream == number)
            for number in range(len(streams))}
    with progress("calibrate", sum(last.values()) + len(last)) as advance:
        for number, audio in enumerate(streams):
            cache = step.initial_cache(lanes)
            chunks = audio[:len(audio) // size * size].reshape(-1, size)
            begins = np.arange(lanes) * len(chunks) // lanes
            for chunk in range(last[number] + 1):
                x = model_input(contract, chunks[(begins + chunk) % len(chunks)])
                if (number, chunk) in taken:
                    caches = zip(contract.cache_in, cache.now, strict=True)
                    yield {contract.input.name: x, **{spec.name: array.copy() for spec, array in caches}}
                _, cache = step(x, cache)
                advance()


def read_clips(clips: Sequence[Clip], rate: int) -> tuple[list[FloatArray], list[str], int]:
    """Read clips at a sample rate until there is enough: the sounds, their hashes, and how many were left
    out because they hold nothing. Of a long one only its beginning is taken, and only that is in memory."""
    sounds, hashes, silent, seconds = [], [], 0, 0.0
    for clip in clips:
        audio, digest = _beginning(clip, rate)
        if is_silent(audio):
            silent += 1
            continue
        sounds.append(audio)
        hashes.append(digest)
        seconds += len(audio) / rate
        if seconds >= MOST:
            break
    if not sounds:
        raise DataError(f"all {silent} clips of the calibration set are silent; there is nothing to "
                        "calibrate on.")
    return sounds, hashes, silent


def _beginning(clip: Clip, rate: int) -> tuple[FloatArray, str]:
    """The first MOST_OF_A_CLIP seconds of a clip and the hash of all of it."""
    digest, parts, missing = ClipHash(), [], MOST_OF_A_CLIP * rate
    for block in clip.blocks(rate):
        digest.update(block)
        if missing:
            parts.append(block[:missing])
            missing -= len(parts[-1])
    return np.concatenate(parts), digest.hexdigest()


def is_silent(audio: FloatArray) -> bool:
    """Does a clip hold nothing to calibrate on? Silence is also the same in every set."""
    return float(np.abs(audio).max(initial=0.0)) < SILENT


def chain_clips(sounds: Sequence[FloatArray], seconds: float, rate: int) -> Iterator[FloatArray]:
    """The sounds one after another, cut into streams of so many seconds at least; a last one that came
    out shorter is filled up with sounds from the beginning."""
    least = round(seconds * rate)
    parts: list[FloatArray] = []
    for sound in sounds:
        parts.append(sound)
        if sum(map(len, parts)) >= least:
            yield np.concatenate(parts)
            parts = []
    rest = len(parts)
    while parts and sum(map(len, parts)) < least:
        parts.append(sounds[(len(parts) - rest) % len(sounds)])
    if parts:
        yield np.concatenate(parts)
