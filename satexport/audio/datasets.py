"""Labelled sets: which clips, what is in them, and the mean average precision over them.

Four kinds are read: the word "synthetic"; a folder in ESC-50 layout (`meta/esc50.csv`,
`audio/`); a list in AudioSet style; a csv `filename,labels` with labels between semicolons.
Audio is read when a clip is scored, not before, at the rate that the model hears.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from satexport.audio.clips import Blocks, Clip
from satexport.audio.files import audio_blocks, audio_endings
from satexport.audio.labels import audioset_mids, esc50_to_audioset
from satexport.audio.synthetic import SPLITS, SYNTHETIC_CLASSES, synthetic_clip, synthetic_labels
from satexport.audio.tables import read_cells, read_lines, read_rows
from satexport.errors import DataError
from satexport.terminal import clipped

SYNTHETIC_CLIPS = 10 * len(SYNTHETIC_CLASSES)  # ten clips for each class
AUDIOSET_COLUMNS = ("YTID", "start_seconds", "end_seconds", "positive_labels")
LAYOUTS = ('expected the word "synthetic", a folder with meta/esc50.csv and audio/, a list in '
           "AudioSet style, or a csv with the columns filename,labels.")
MAP = "expected a category map, a csv with the columns category,label."

@dataclass(frozen=True, kw_only=True)
class LabelledSet:
    """Clips and the labels among them, in the order of the model's; origin is for reports."""

    name: str
    clips: tuple[Clip, ...]
    classes: tuple[str, ...]
    origin: dict[str, object]

    def truth(self, labels: Sequence[str]) -> NDArray[np.bool_]:
        """Which label is in which clip: [clips, labels]."""
        return np.array([[label in clip.labels for label in labels] for clip in self.clips])


@dataclass(frozen=True)
class _Row:
    """A line of a list before its categories become labels of the model."""

    name: str
    categories: tuple[str, ...]
    blocks: Blocks


def load_set(data: str | Path, labels: Sequence[str], *, folds: Sequence[int] | None = None,
             category_map: Path | None = None) -> LabelledSet:
    """Find the clips of `data` and give them the model's labels.

    A category becomes what `category_map` (a csv `category,label`) says of it; else the label
    of its own name; else what the shipped table of ESC-50 says. `folds` chooses clips of a set
    in ESC-50 layout. Raises `DataError` where clips, files or labels are missing.
    """
    path = Path(data)
    if data == "synthetic":
        reader = _read_synthetic
    elif not os.path.exists(path):  # pathlib's raises an error for a name that is too long
        raise DataError(f"{path}: nothing there; {LAYOUTS}")
    elif is_esc50(path):
        return _labelled(*_read_esc50(path, folds), labels, category_map)
    else:
        reader = partial(_read_list, path)
    if folds is not None:
        raise DataError(f"{data}: has no folds; only a set in ESC-50 layout has. "
                        "Leave the folds out.")
    return _labelled(*reader(), labels, category_map)


def is_esc50(data: str | Path) -> bool:
    """Is it a folder in ESC-50 layout?"""
    return os.path.isfile(Path(data) / "meta" / "esc50.csv")


def _labelled(rows: list[_Row], origin: dict[str, object], labels: Sequence[str],
              category_map: Path | None) -> LabelledSet:
    """The set of these rows, every category turned into a label of the model."""
    own = _read_map(category_map) if category_map else {}
    shipped = esc50_to_audioset()
    known = set(labels)
    label_of: dict[str, str] = {}
    strangers = []
    for category in sorted({c for row in rows for c in row.categories}):
        choices = [own[category]] if category in own else [category, shipped.get(category, "")]
        found = [c for c in choices if c in known]
        if found:
            label_of[category] = found[0]
        else:
            strangers.append(category)
    where = origin["folder"] if "folder" in origin else origin["kind"]
    if strangers:
        raise DataError(f"{where}: {_few(strangers)}: no such label in this model. Say which "
                        "labels they are with a category map, a csv with the columns "
                        "category,label.")
    clips = tuple(Clip(row.name, tuple(dict.fromkeys(label_of[c] for c in row.categories)),
                       row.blocks) for row in rows)
    present = {label for clip in clips for label in clip.labels}
    if not present:
        raise DataError(f"{where}: no clip has a label; a labelled set needs some.")
    if category_map:
        origin = origin | {"category_map": str(category_map)}
    return LabelledSet(name=str(where), clips=clips, classes=tuple(x for x in labels if x in present),
                       origin=origin | {"clips": len(clips)})


def _few(names: Sequence[str]) -> str:
    """'a, b, c and 4 more', each by its beginning where it is long."""
    more = f" and {len(names) - 3} more" if len(names) > 3 else ""
    return ", ".join(map(clipped, names[:3])) + more


def _need_one_line_each(listed_in: Path, folder: Path, names: Iterable[tuple[int, str]]) -> None:
    """Raise `DataError` for a file in this folder that stands in two lines, however each spells it: it would
    count twice, each time with a part of its labels. Links and copies are files of their own."""
    first: dict[str, int] = {}
    for number, name in names:
        file = os.path.normcase(os.path.abspath(folder / name))
        if first.setdefault(file, number) != number:
            raise DataError(f"{listed_in}, line {number}: {name} stands in line {first[file]}, too; expected "
                            "one line for each clip, with all of its labels.")


def _read_map(path: Path) -> dict[str, str]:
    labels: dict[str, str] = {}
    for number, row in read_rows(path, read_lines(path, MAP), ("category", "label")):
        if labels.setdefault(row["category"], row["label"]) != row["label"]:
            raise DataError(f"{path}, line {number}: {row['category']} is {row['label']} here and "
                            f"{labels[row['category']]} before; expected one label for each category.")
    return labels


def _read_synthetic() -> tuple[list[_Row], dict[str, object]]:
    split, seeds = "evaluate", SPLITS["evaluate"]
    clips = synthetic_clips(split, range(SYNTHETIC_CLIPS))
    rows = [_Row(clip.name, clip.labels, clip.blocks) for clip in clips]
    return rows, {"kind": "synthetic", "split": split,
                  "seeds": [seeds[0], seeds[SYNTHETIC_CLIPS - 1]]}


def synthetic_clips(split: str, numbers: range) -> list[Clip]:
    """Some clips of a split of the sounds that code makes."""
    return [Clip(f"{split}-{i}", synthetic_labels(split, i), partial(_synthetic_audio, split, i))
            for i in numbers]


def _synthetic_audio(split: str, index: int, rate: int) -> Iterator[NDArray[np.float32]]:
    yield synthetic_clip(split, index, rate=rate)[0]


def _read_esc50(folder: Path, folds: Sequence[int] | None
                ) -> tuple[list[_Row], dict[str, object]]:
    meta = folder / "meta" / "esc50.csv"
    table = read_rows(meta, read_lines(meta, LAYOUTS), ("filename", "fold", "category"), ("esc10",), LAYOUTS)
    fold_of = [_fold(meta, number, row["fold"]) for number, row in table]
    there = sorted(set(fold_of))
    wanted = there if folds is None else folds
    if absent := [fold for fold in wanted if fold not in there]:
        raise DataError(f"{meta}: no clip in fold {', '.join(map(str, absent))}; it has the folds "
                        f"{', '.join(map(str, there))}: choose with --folds.")
    _need_one_line_each(meta, folder / "audio", ((number, row["filename"]) for number, row in table))
    kept = [row for fold, (_, row) in zip(fold_of, table, strict=True) if fold in wanted]
    rows = [_Row(row["filename"], (row["category"],),
                 partial(audio_blocks, folder / "audio" / row["filename"])) for row in kept]
    _need_files(meta, [folder / "audio" / row.name for row in rows])
    esc10 = all(row.get("esc10") == "True" for row in kept)
    return rows, {"kind": "esc50", "folder": str(folder),
                  "folds": [str(fold) for fold in there if fold in wanted],
                  # as the data set's own LICENSE file states it
                  "licence": "CC BY (ESC-10)" if esc10 else "CC BY-NC 3.0 (ESC-50)"}


def _fold(meta: Path, number: int, text: str) -> int:
    if not re.fullmatch("[0-9]{1,4}", text):
        raise DataError(f"{meta}, line {number}: the fold is {text[:20]!r}, expected a number such as 4.")
    return int(text)


def esc50_clips(folder: Path, folds: Sequence[int] | None) -> list[Clip]:
    """The clips of a set in ESC-50 layout, labelled with its own categories."""
    return [Clip(row.name, row.categories, row.blocks) for row in _read_esc50(folder, folds)[0]]


def _need_files(listed_in: Path, files: Sequence[Path]) -> None:
    missing = [file.name for file in files if not os.path.isfile(file)]
    if missing:
        raise DataError(f"{listed_in}: {len(missing)} of {len(files)} audio files are missing in "
                        f"{files[0].parent} ({_few(missing)}). Complete the set.")


def _read_list(path: Path) -> tuple[list[_Row], dict[str, object]]:
    """A csv in AudioSet style or with filename,labels, or a folder that holds just one csv."""
    if os.path.isdir(path):
        lists = sorted(path.glob("*.csv"))
        if len(lists) != 1:
            found = _few([file.name for file in lists]) or "no csv"
            raise DataError(f"{path}: {found} in this folder; {LAYOUTS} Name the list itself.")
        path = lists[0]
    lines = read_lines(path, LAYOUTS)
    first = next((line for line in lines if line.strip()), None)
    if first is None:
        raise DataError(f"{path}: is empty; {LAYOUTS}")
    if first.startswith("#"):
        return _read_audioset(path, lines)
    table = read_rows(path, lines, ("filename", "labels"), expected=LAYOUTS)
    _need_one_line_each(path, path.parent, ((number, row["filename"]) for number, row in table))
    _need_files(path, [path.parent / row["filename"] for _, row in table])
    rows = [_Row(row["filename"], tuple(x.strip() for x in row["labels"].split(";") if x.strip()),
                 partial(audio_blocks, path.parent / row["filename"])) for _, row in table]
    return rows, {"kind": "csv", "folder": str(path)}


def _read_audioset(path: Path, lines: Sequence[str]) -> tuple[list[_Row], dict[str, object]]:
    """A list `# YTID, start_seconds, end_seconds, positive_labels`, mids between quotes.

    The audio of a line lies in `audio/` beside the list, or right beside it, as YTID, YYTID,
    YTID_30 or YTID_30000 (start in seconds or milliseconds), and ends as files that soundfile
    reads. Lines without audio are left out, counted and named in the origin.
    """
    endings = audio_endings()
    files = {file.stem: file for folder in (path.parent, path.parent / "audio") if folder.is_dir()
             for file in sorted(folder.iterdir()) if file.suffix.lower() in endings}
    mids = audioset_mids()
    rows, missing, places = [], [], []
    for number, cells in read_cells(path, ("" if line.startswith("#") else line for line in lines)):
        try:
            video, start, _, positive = cells
            seconds = float(start)
        except ValueError:
            raise DataError(f"{path}, line {number}: is {','.join(cells)[:80]!r}; expected "
                            f"{', '.join(AUDIOSET_COLUMNS)}, the labels in quotes.") from None
        stems = (video, f"Y{video}", f"{video}_{seconds:.0f}", f"{video}_{1000 * seconds:.0f}")
        found = next((files[stem] for stem in stems if stem in files), None)
        if found is None:
            missing.append(video)
            continue
        categories = tuple(mids.get(mid.strip(), mid.strip()) for mid in positive.split(",") if mid.strip())
        rows.append(_Row(found.name, categories, partial(audio_blocks, found)))
        places.append((number, found.name))
    _need_one_line_each(path, path.parent, places)
    if not rows:
        raise DataError(f"{path}: none of its {len(missing)} clips is in {path.parent} or "
                        f"{path.parent / 'audio'} ({_few(missing)}); expected files like "
                        f"{missing[0] if missing else 'YTID'}.wav.")
    return rows, {"kind": "audioset", "folder": str(path), "missing": len(missing),
                  "missing_clips": missing, "licence": "labels CC BY 4.0 (AudioSet)"}

