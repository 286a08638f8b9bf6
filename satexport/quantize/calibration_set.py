"""Calibration sets: the clips that activation ranges are found on, and the clips that layers are chosen on.

A set is a TOML file in `calibration/`, or a folder of audio. None of these clips may be used for a bundle's
accuracy gates.
"""

from __future__ import annotations

import dataclasses
import os
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

import numpy as np

from satexport import facts
from satexport.audio.clips import Clip
from satexport.audio.datasets import LabelledSet, esc50_clips, is_esc50, load_set, synthetic_clips
from satexport.audio.esc50 import cached_esc50
from satexport.audio.files import audio_blocks, audio_suffixes
from satexport.audio.synthetic import SYNTHETIC_CLASSES
from satexport.errors import DataError
from satexport.files import sha256_of
from satexport.terminal import note

SOURCES = ("synthetic", "esc50", "folder")
MIN_SAMPLES = 16       # fewer are not enough for a range
MIN_STREAM_SECONDS = 30  # longer than the history in any cache at a delay of 2 s
FIRST_SYNTHETIC = 1000  # index of the first clip: earlier ones are in the golden chunks, which test a bundle
FOLDER = facts.shipped_folder("calibration")


@dataclass(frozen=True, kw_only=True)
class CalibrationSet:
    """A TOML file; its keys are the fields."""

    name: str                         # of the set, in reports
    source: str                       # one of SOURCES
    licence: str                      # of the recordings, in words
    clips: int                        # maximum; if there are more, the seed chooses
    samples: int                      # chunks to sample, maximum
    stream_seconds: float = 60.0      # minimum length of a stream
    seed: int = 0                     # chooses clips and chunks
    folds: tuple[int, ...] = ()       # of ESC-50, for calibration
    choose_folds: tuple[int, ...] = ()  # of ESC-50, for the choice of layers
    gate_folds: tuple[int, ...] = ()    # of ESC-50, for the gates
    folder: str = ""                  # for `source = "folder"`, relative to the TOML file
    checksums: dict[str, str] = field(default_factory=dict)  # file in the folder of the data -> SHA-256


def shipped() -> list[CalibrationSet]:
    """Return the sets that come with satexport, sorted by name."""
    return [find_calibration(name) for name in facts.names(FOLDER)]


def find_calibration(what: str) -> CalibrationSet:
    """Return a shipped set by name, a set from a TOML file by path, or a set over a folder of audio.

    Raises `UsageError` for an unknown name, `DataError` for a file that is damaged or has an unknown key or
    an invalid value.
    """
    if what not in facts.names(FOLDER) and os.path.isdir(what):
        name = Path(what).resolve().name
        return CalibrationSet(name=name, source="folder", licence="your own", clips=160, samples=80,
                              folder=what)
    fields, path = facts.read_facts(FOLDER, what, "calibration set (or folder of audio)")
    result = CalibrationSet(**facts.check_fields(CalibrationSet, fields, path))
    facts.check_values(_conditions(result), path)
    return dataclasses.replace(result, folder=str(path.parent / result.folder)) if result.folder else result


def _conditions(found: CalibrationSet) -> Iterator[facts.Condition]:
    yield "name", found.name, bool(found.name) and found.name.isprintable(), "a printable text"
    yield "source", found.source, found.source in SOURCES, " or ".join(SOURCES)
    yield "licence", found.licence, bool(found.licence), "a text"
    yield "clips", found.clips, found.clips >= 1, "a number from 1"
    yield ("samples", found.samples, MIN_SAMPLES <= found.samples <= 100_000,
           f"a number from {MIN_SAMPLES}")
    yield ("stream_seconds", found.stream_seconds, MIN_STREAM_SECONDS <= found.stream_seconds <= 86_400,
           f"seconds from {MIN_STREAM_SECONDS}")
    yield "seed", found.seed, found.seed >= 0, "a number from 0"
    yield ("choose_folds", list(found.choose_folds),
           not found.choose_folds or (bool(found.folds) and not set(found.choose_folds) & set(found.folds)),
           "folds that are not in folds; folds must be given as well")
    yield ("gate_folds", list(found.gate_folds),
           not found.gate_folds or (bool(found.folds) and not set(found.gate_folds) & {
               *found.folds, *found.choose_folds}),
           "folds that are neither in folds nor in choose_folds; folds must be given as well: a clip that "
           "gates is never used to calibrate or choose")
    for name, sha256 in found.checksums.items():
        yield (f"the checksum of {name!r}", sha256, re.fullmatch("[0-9a-fA-F]{64}", sha256) is not None,
               "a SHA-256, 64 hex digits")
    yield ("folder", found.folder, bool(found.folder) or found.source != "folder",
           "a folder, because source is \"folder\"")


def default_folds(data: str, chosen: CalibrationSet | None = None) -> list[int] | None:
    """Return the default folds for the gates: for a labelled set in ESC-50 layout the `gate_folds` of the
    calibration set, or of the shipped set `esc50` if that has none; None for other sets, which have no
    folds."""
    if not is_esc50(data):
        return None
    if chosen is None or not chosen.gate_folds:
        chosen = find_calibration("esc50")
    return list(chosen.gate_folds)


def calibration_clips(chosen: CalibrationSet, data: Path | None,
                      tell: Callable[[str], None] = note) -> list[Clip]:
    """Return the clips for calibration, in an order that depends on the seed.

    `data` is the folder of the recordings, if the set does not name one. `tell` is called with a note on the
    files that are ignored. Raises `DataError` if the folder is missing or a checksum does not match.
    """
    if chosen.source == "synthetic":
        clips = synthetic_clips("calibrate", range(FIRST_SYNTHETIC, FIRST_SYNTHETIC + chosen.clips))
    elif chosen.source == "esc50":
        clips = esc50_clips(_folder(chosen, data), chosen.folds or None)
    else:
        folder = _folder(chosen, data)
        endings, files = audio_suffixes(), sorted(_files(folder))
        names = [str(path) for path in files if path.suffix.lower() in endings]
        others = [str(path) for path in files if path.suffix.lower() not in endings]
        ignored = f"{len(others)} files without an audio file extension: {', '.join(others[:5])}"
        if not names:
            raise DataError(f"{folder}: contains no audio{f', but {ignored}' if others else ''}. "
                            "Expected recordings such as .wav, .flac, .ogg or .mp3.")
        if others:
            tell(f"{folder}: ignored {ignored}.")
        clips = [Clip(name, (), partial(audio_blocks, folder / name)) for name in names]
    order = np.random.default_rng(chosen.seed).permutation(len(clips))
    return [clips[i] for i in order[:chosen.clips]]


def choosing_set(chosen: CalibrationSet, data: Path | None, labels: tuple[str, ...]) -> LabelledSet:
    """Return the clips that layers are chosen on. For `synthetic` these are the clips after those for
    calibration; for ESC-50 `choose_folds`, or `folds` if there are none; for a folder the clips for
    calibration. The result has no classes if the model's labels do not cover the clips; then there is no mAP
    to choose by."""
    if chosen.source == "synthetic":
        first = FIRST_SYNTHETIC + chosen.clips
        clips = synthetic_clips("calibrate", range(first, first + chosen.clips))
        known = SYNTHETIC_CLASSES if set(SYNTHETIC_CLASSES) <= set(labels) else ()
        return LabelledSet(name=chosen.name, clips=tuple(clips), classes=tuple(known),
                           origin={"kind": "synthetic", "split": "calibrate"})
    if chosen.source == "esc50":
        folder, folds = _folder(chosen, data), chosen.choose_folds or chosen.folds or None
        try:
            return load_set(folder, labels, folds=folds)
        except DataError:  # labels that this model does not know
            clips = esc50_clips(folder, folds)
    else:
        clips = calibration_clips(chosen, data, tell=lambda _: None)  # calibration has told already
    return LabelledSet(name=chosen.name, clips=tuple(clips), classes=(), origin={"kind": chosen.source})


def _files(folder: Path) -> Iterator[Path]:
    """Yield the files in a folder and its subfolders, as relative paths, except hidden ones."""
    for path in folder.rglob("*"):
        inside = path.relative_to(folder)
        if path.is_file() and not any(part.startswith(".") for part in inside.parts):
            yield inside


def _folder(chosen: CalibrationSet, data: Path | None) -> Path:
    """Return the folder of the recordings after checking the checksums of the set. Raises `DataError`."""
    folder = data or (Path(chosen.folder) if chosen.folder else cached_esc50())
    if not os.path.isdir(folder):
        fetch = "Fetch it with `satexport data esc50`, or pass its folder with --data."
        raise DataError(f"calibration set {chosen.name}: there is no folder {folder}. "
                        f"{fetch if chosen.source == 'esc50' else 'Pass another one with --calibration.'}")
    for name, expected in chosen.checksums.items():
        if not os.path.isfile(folder / name):
            raise DataError(f"calibration set {chosen.name}: {folder / name} is missing. Copy it there, or "
                            "pass another folder with --data.")
        if (found := sha256_of(folder / name)) != expected.lower():
            raise DataError(f"{folder / name} has the SHA-256 {found[:12]}..., expected {expected[:12]}... "
                            f"(set {chosen.name}). It is another file, or damaged.")
    return folder

