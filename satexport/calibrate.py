"""Calibrate: what a graph's tensors hold while streams run, for a quantiser to find ranges in.

A step cannot be calibrated on chunks alone: what it sees depends on the cache, and a cache on
everything before. So the clips of a calibration set are chained into streams, the fp32 graph runs
over them from silence, and chunks at random positions are taken together with the cache that they
met: some right after silence, most with a full history.

A set is a TOML in `calibration/`: which clips, from where, how many, seed, licence, checksums.
"""

from __future__ import annotations

import dataclasses
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from satexport.audio import read_audio
from satexport.backends import FloatArray
from satexport.backends.onnxruntime import OnnxRuntimeStep
from satexport.bundle import Bundle
from satexport.contract import ANY
from satexport.datasets import AUDIO_ENDINGS, clip_hash, esc50_clips
from satexport.errors import DataError, UsageError
from satexport.files import sha256_of
from satexport.frontend import log_mel
from satexport.report import progress
from satexport.synthetic import synthetic_clip
from satexport.variants import SAMPLE_RATE

SOURCES = ("synthetic", "esc50", "folder")
LEAST_SAMPLES = 16     # fewer make no range
LEAST_SECONDS = 30     # of a stream: longer than any cache remembers at 2 s
NOT_GOLDEN = 1000      # first synthetic clip: those before it are in the golden chain, which proves
SILENT = 1e-4          # largest sample of a clip that holds nothing to calibrate on, -80 dBFS
# The folder lies beside the package in a checkout and inside it in a wheel.
FOLDER = next((f for f in (Path(__file__).parent / "calibration", Path(__file__).parents[1] / "calibration")
               if f.is_dir()), Path(__file__).parent / "calibration")
Sample = dict[str, FloatArray]  # a graph's inputs by name


@dataclass(frozen=True)
class CalibrationSet:
    """One TOML; the keys are the fields."""

    name: str
    source: str                       # one of SOURCES
    licence: str
    clips: int                        # at most; chosen by the seed where there are more
    samples: int                      # chunks that are taken
    stream_seconds: float = 60.0      # least length of a stream
    seed: int = 0
    folds: tuple[int, ...] = ()       # of ESC-50
    folder: str = ""                  # of `source = "folder"`, beside the TOML
    checksums: Mapping[str, str] = field(default_factory=dict)  # file in the data's folder -> SHA-256


@dataclass(frozen=True)
class Calibration:
    """Inputs of steps that a set gave, and where they come from."""

    samples: list[Sample]
    clip_hashes: tuple[str, ...]      # SHA-256 of each clip's samples: what must not gate
    origin: dict[str, Any]


def find_calibration(what: str) -> CalibrationSet:
    """Return a shipped set by name, one from a TOML by path, or one over a folder of audio.

    Raises `UsageError` for an unknown name, `DataError` for a file that is damaged or has a key that
    does not exist or a value that cannot be meant.
    """
    if sys.version_info >= (3, 11):
        import tomllib
    else:
        import tomli as tomllib  # type: ignore[import-not-found]

    if not (FOLDER / f"{what}.toml").exists() and Path(what).is_dir():
        return CalibrationSet(Path(what).resolve().name, "folder", "your own", 10_000, 80, folder=what)
    path = Path(what) if what.endswith(".toml") else FOLDER / f"{what}.toml"
    try:
        fields = tomllib.loads(path.read_text("utf-8"))
    except FileNotFoundError:
        names = ", ".join(sorted(p.stem for p in FOLDER.glob("*.toml")))
        raise UsageError(f"no calibration set {what!r}; there are {names}, or pass a FILE.toml or a folder "
                         "of audio.") from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError, OSError) as error:
        raise DataError(f"{path} is no readable TOML: {error}.") from None
    found = _checked(fields, path)
    return dataclasses.replace(found, folder=str(path.parent / found.folder)) if found.folder else found


def _checked(fields: dict[str, Any], path: Path) -> CalibrationSet:
    known = {f.name: f for f in dataclasses.fields(CalibrationSet)}
    if unknown := sorted(set(fields) - set(known)):
        raise DataError(f"{path}: unknown key {unknown[0]!r}; the keys are {', '.join(known)}.")
    needed = [n for n, f in known.items()
              if f.default is dataclasses.MISSING and f.default_factory is dataclasses.MISSING]
    if absent := [name for name in needed if name not in fields]:
        raise DataError(f"{path}: lacks the key {absent[0]!r}.")
    fits: dict[str, Callable[[Any], object]] = {
        "name": lambda v: isinstance(v, str) and v.isprintable() and v,
        "source": lambda v: v in SOURCES,
        "licence": lambda v: isinstance(v, str) and v,
        "clips": lambda v: _is_int(v) and v >= 1,
        "samples": lambda v: _is_int(v) and LEAST_SAMPLES <= v <= 100_000,
        "stream_seconds": lambda v: (_is_int(v) or isinstance(v, float)) and LEAST_SECONDS <= v <= 86_400,
        "seed": lambda v: _is_int(v) and v >= 0,
        "folds": lambda v: isinstance(v, list) and all(map(_is_int, v)),
        "folder": lambda v: isinstance(v, str),
        "checksums": lambda v: isinstance(v, dict) and all(isinstance(x, str) for x in v.values()),
    }
    expected = {
        "source": " or ".join(SOURCES), "samples": f"a number from {LEAST_SAMPLES}",
        "stream_seconds": f"seconds from {LEAST_SECONDS}", "clips": "a number from 1",
        "seed": "a number from 0", "folds": "a list of numbers", "checksums": "a table of SHA-256 by file",
    }
    for name, value in fields.items():
        if not fits[name](value):
            raise DataError(f"{path}: {name} is {value!r}, expected {expected.get(name, 'a text')}.")
    if fields["source"] == "folder" and not fields.get("folder"):
        raise DataError(f"{path}: source is 'folder', but no key folder says which. Add folder = \"DIR\".")
    return CalibrationSet(**{**fields, "folds": tuple(fields.get("folds", ()))})


def _is_int(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


def calibrate(bundle: Bundle, chosen: CalibrationSet, data: Path | None = None) -> Calibration:
    """Run an fp32 bundle over a set and return the inputs of the steps that were taken.

    `data` is the folder of the recordings where the set does not say it. Raises `DataError` where
    there are too few clips, one cannot be read, or a checksum is another.
    """
    contract = bundle.contract
    random = np.random.default_rng(chosen.seed)
    clips = _clips(chosen, data)
    if len(clips) > chosen.clips:
        clips = [clips[i] for i in sorted(random.permutation(len(clips))[:chosen.clips])]
    sounds, hashes, left_out = _read(clips)
    streams = list(_chained(sounds, random, chosen.stream_seconds))
    size = contract.chunk_samples
    positions = [(number, chunk) for number, audio in enumerate(streams)
                 for chunk in range(len(audio) // size)]
    if len(positions) < chosen.samples:
        raise DataError(f"calibration set {chosen.name}: {len(hashes)} clips give {len(positions)} chunks of "
                        f"{contract.delay} s, it asks for {chosen.samples} of them. Add clips, or ask for "
                        "fewer samples.")
    taken = {positions[i] for i in random.permutation(len(positions))[:chosen.samples]}
    taken |= {(number, 0) for number in range(len(streams))}  # silence is what every stream starts from
    step = OnnxRuntimeStep(bundle.graph, contract, bundle.initial_cache())
    lanes = 1 if contract.form.streams == ANY else contract.form.streams
    samples: list[Sample] = []
    with progress("calibrate", len(positions)) as advance:
        for number, audio in enumerate(streams):
            cache = step.initial_cache(lanes)
            for chunk in range(len(audio) // size):
                x = np.repeat(audio[None, chunk * size:(chunk + 1) * size], lanes, axis=0)
                if contract.form.input == "mel":
                    x = log_mel(x, contract.input.shape[2])
                if (number, chunk) in taken:
                    names = [spec.name for spec in contract.cache_in]
                    samples.append({contract.input.name: x, **dict(zip(
                        names, [array.copy() for array in cache.now], strict=True))})
                _, cache = step(x, cache)
                advance()
    origin = {**dataclasses.asdict(chosen), "clips": len(hashes), "silent_clips_left_out": left_out,
              "streams": len(streams), "samples": len(samples)}
    return Calibration(samples, tuple(hashes), origin)


def _clips(chosen: CalibrationSet, data: Path | None) -> list[tuple[str, Any]]:
    """Names of a set's clips and functions that read them."""
    if chosen.source == "synthetic":
        first = NOT_GOLDEN
        return [(f"calibrate-{i}", partial(_synthetic, i)) for i in range(first, first + chosen.clips)]
    folder = data or (Path(chosen.folder) if chosen.folder else None)
    if folder is None:
        from satexport.published import cached_esc50

        folder = cached_esc50()
    if not folder.is_dir():
        raise DataError(f"calibration set {chosen.name}: {folder} is not there. Fetch it with "
                        "`satexport data esc50`, or pass its folder with --data.")
    for name, expected in chosen.checksums.items():
        if not (folder / name).is_file():
            raise DataError(f"calibration set {chosen.name}: {folder / name} is not there.")
        if (found := sha256_of(folder / name)) != expected:
            raise DataError(f"{folder / name} has the SHA-256 {found[:12]}..., the set {chosen.name} says "
                            f"{expected[:12]}.... It is another file, or damaged.")
    if chosen.source == "esc50":
        return [(clip.name, clip.read) for clip in esc50_clips(folder, chosen.folds or None)]
    files = [path for path in sorted(folder.rglob("*")) if path.suffix.lower() in AUDIO_ENDINGS]
    if not files:
        raise DataError(f"{folder}: no audio in it; expected files that end in {', '.join(AUDIO_ENDINGS)}.")
    return [(path.name, partial(read_audio, path)) for path in files]


def _synthetic(index: int) -> FloatArray:
    return synthetic_clip("calibrate", index)[0]


def _read(clips: Sequence[tuple[str, Any]]) -> tuple[list[FloatArray], list[str], int]:
    """The sounds, their hashes, and how many were left out because they hold nothing."""
    sounds, hashes, silent = [], [], 0
    for _, read in clips:
        audio = read()
        if np.abs(audio).max(initial=0.0) < SILENT:
            silent += 1
            continue
        sounds.append(audio)
        hashes.append(clip_hash(audio))
    if not sounds:
        raise DataError(f"all {silent} clips of the calibration set are silent; there is nothing to "
                        "calibrate on.")
    return sounds, hashes, silent


def _chained(sounds: Sequence[FloatArray], random: np.random.Generator,
             seconds: float) -> Iterator[FloatArray]:
    """The sounds one after another in a random order, cut into streams of so many seconds at least;
    a last one that came out shorter is filled up with sounds from the beginning."""
    least = round(seconds * SAMPLE_RATE)
    order = random.permutation(len(sounds)).tolist()
    parts: list[FloatArray] = []
    for i in order:
        parts.append(sounds[i])
        if sum(map(len, parts)) >= least:
            yield np.concatenate(parts)
            parts = []
    while parts and sum(map(len, parts)) < least:
        parts.append(sounds[order[len(parts) % len(order)]])
    if parts:
        yield np.concatenate(parts)
