"""Calibration sets: which clips ranges are found on, and which others choices are made on.

A set is a TOML in `calibration/`, or a folder of audio. No clip of either kind may gate a bundle.
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
LEAST_SAMPLES = 16     # fewer make no range
LEAST_SECONDS = 30     # of a stream: longer than any cache remembers at 2 s
NOT_GOLDEN = 1000      # first synthetic clip: those before it are in the golden chain, which proves
FOLDER = facts.shipped_folder("calibration")


@dataclass(frozen=True, kw_only=True)
class CalibrationSet:
    """One TOML; the keys are the fields."""

    name: str
    source: str                       # one of SOURCES
    licence: str
    clips: int                        # at most; chosen by the seed where there are more
    samples: int                      # chunks that are taken, at most
    stream_seconds: float = 60.0      # least length of a stream
    seed: int = 0
    folds: tuple[int, ...] = ()       # of ESC-50: what calibrates
    choose_folds: tuple[int, ...] = ()  # of ESC-50: what layers are chosen on
    gate_folds: tuple[int, ...] = ()    # of ESC-50: what gates, see `default_folds`
    folder: str = ""                  # of `source = "folder"`, beside the TOML
    checksums: dict[str, str] = field(default_factory=dict)  # file in the data's folder -> SHA-256


def shipped() -> list[CalibrationSet]:
    """The sets that come with satexport, sorted by name."""
    return [find_calibration(name) for name in facts.names(FOLDER)]


def find_calibration(what: str) -> CalibrationSet:
    """Return a shipped set by name, one from a TOML by path, or one over a folder of audio.

    Raises `UsageError` for an unknown name, `DataError` for a file that is damaged or has a key that
    does not exist or a value that cannot be meant.
    """
    if what not in facts.names(FOLDER) and os.path.isdir(what):
        name = Path(what).resolve().name
        return CalibrationSet(name=name, source="folder", licence="your own", clips=160, samples=80,
                              folder=what)
    fields, path = facts.read_facts(FOLDER, what, "calibration set (or folder of audio)")
    found = CalibrationSet(**facts.check_fields(CalibrationSet, fields, path))
    facts.check_values(_conditions(found), path)
    return dataclasses.replace(found, folder=str(path.parent / found.folder)) if found.folder else found


def _conditions(found: CalibrationSet) -> Iterator[facts.Condition]:
    yield "name", found.name, bool(found.name) and found.name.isprintable(), "a printable text"
    yield "source", found.source, found.source in SOURCES, " or ".join(SOURCES)
    yield "licence", found.licence, bool(found.licence), "a text"
    yield "clips", found.clips, found.clips >= 1, "a number from 1"
    yield ("samples", found.samples, LEAST_SAMPLES <= found.samples <= 100_000,
           f"a number from {LEAST_SAMPLES}")
    yield ("stream_seconds", found.stream_seconds, LEAST_SECONDS <= found.stream_seconds <= 86_400,
           f"seconds from {LEAST_SECONDS}")
    yield "seed", found.seed, found.seed >= 0, "a number from 0"
    yield ("choose_folds", list(found.choose_folds),
           not found.choose_folds or (bool(found.folds) and not set(found.choose_folds) & set(found.folds)),
           "other folds than folds, which must be said, too")
    yield ("gate_folds", list(found.gate_folds),
           not found.gate_folds or (bool(found.folds) and not set(found.gate_folds) & {
               *found.folds, *found.choose_folds}),
           "other folds than folds, which must be said, too, and than choose_folds: a clip that gates is "
           "never used to calibrate or choose")
    for name, sha256 in found.checksums.items():
        yield (f"the checksum of {name!r}", sha256, re.fullmatch("[0-9a-fA-F]{64}", sha256) is not None,
               "a SHA-256, 64 hex digits")
    yield ("folder", found.folder, bool(found.folder) or found.source != "folder",
           "a folder, which source = \"folder\" needs")


def default_folds(data: str, chosen: CalibrationSet | None = None) -> list[int] | None:
    """The folds of a labelled set that gate where nobody says which: of one in ESC-50 layout `gate_folds` of
    the calibration set that was chosen, or of the shipped one; None of any other, which has no folds."""
    if not is_esc50(data):
        return None
    if chosen is None or not chosen.gate_folds:
        chosen = find_calibration("esc50")
    return list(chosen.gate_folds)


def calibration_clips(chosen: CalibrationSet, data: Path | None,
                      tell: Callable[[str], None] = note) -> list[Clip]:
    """What calibrates, in an order that the seed decides.

    `data` is the folder of the recordings where the set does not say it; `tell` gets the names of what is
    left out of it. Raises `DataError` where it is not there or a checksum is another.
    """
    if chosen.source == "synthetic":
        clips = synthetic_clips("calibrate", range(NOT_GOLDEN, NOT_GOLDEN + chosen.clips))
    elif chosen.source == "esc50":
        clips = esc50_clips(_folder(chosen, data), chosen.folds or None)
    else:
        folder = _folder(chosen, data)
        endings, files = audio_suffixes(), sorted(_files(folder))
        names = [str(path) for path in files if path.suffix.lower() in endings]
        others = [str(path) for path in files if path.suffix.lower() not in endings]
        left_out = f"{len(others)} files whose names do not end as those of audio do: {', '.join(others[:5])}"
        if not names:
            raise DataError(f"{folder}: no audio in it{'; ' if others else ''}{left_out if others else ''}. "
                            "Expected recordings such as .wav, .flac, .ogg or .mp3.")
        if others:
            tell(f"{folder}: left out {left_out}.")
        clips = [Clip(name, (), partial(audio_blocks, folder / name)) for name in names]
    order = np.random.default_rng(chosen.seed).permutation(len(clips))
    return [clips[i] for i in order[:chosen.clips]]


def choosing_set(chosen: CalibrationSet, data: Path | None, labels: tuple[str, ...]) -> LabelledSet:
    """What choices are made on: of `synthetic` the clips after those that calibrate, of ESC-50
    `choose_folds` (`folds` without), of a folder the clips that calibrate. It has no classes where the
    labels of the model do not name what is in them; no mAP can then be judged."""
    if chosen.source == "synthetic":
        first = NOT_GOLDEN + chosen.clips
        clips = synthetic_clips("calibrate", range(first, first + chosen.clips))
        known = SYNTHETIC_CLASSES if set(SYNTHETIC_CLASSES) <= set(labels) else ()
        return LabelledSet(name=chosen.name, clips=tuple(clips), classes=tuple(known),
                           origin={"kind": "synthetic"})
    if chosen.source == "esc50":
        folder, folds = _folder(chosen, data), chosen.choose_folds or chosen.folds or None
        try:
            return load_set(folder, labels, folds=folds)
        except DataError:  # labels that this model does not know
            clips = esc50_clips(folder, folds)
    else:
        clips = calibration_clips(chosen, data, tell=lambda _: None)  # said where they calibrate
    return LabelledSet(name=chosen.name, clips=tuple(clips), classes=(), origin={"kind": chosen.source})


def _files(folder: Path) -> Iterator[Path]:
    """What is in a folder and the folders in it, from there on; nothing that is hidden or in a hidden one."""
    for path in folder.rglob("*"):
        inside = path.relative_to(folder)
        if path.is_file() and not any(part.startswith(".") for part in inside.parts):
            yield inside


def _folder(chosen: CalibrationSet, data: Path | None) -> Path:
    """Where the recordings are, each file with a checksum as the set says it."""
    folder = data or (Path(chosen.folder) if chosen.folder else cached_esc50())
    if not os.path.isdir(folder):
        fetch = "Fetch it with `satexport data esc50`, or pass its folder with --data."
        raise DataError(f"calibration set {chosen.name}: there is no folder {folder}. "
                        f"{fetch if chosen.source == 'esc50' else 'Pass another with --calibration.'}")
    for name, expected in chosen.checksums.items():
        if not os.path.isfile(folder / name):
            raise DataError(f"calibration set {chosen.name}: {folder / name} is not there.")
        if (found := sha256_of(folder / name)) != expected.lower():
            raise DataError(f"{folder / name} has the SHA-256 {found[:12]}..., the set {chosen.name} says "
                            f"{expected[:12]}.... It is another file, or damaged.")
    return folder

