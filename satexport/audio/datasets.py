"""Labelled data sets: their clips and the labels of each.

Kinds: the word "synthetic"; a folder in ESC-50 layout (`meta/esc50.csv`, `audio/`); a list in AudioSet style;
a csv `filename,labels` with the labels separated by semicolons; and with strong labels, the word "scenes" and
a .tsv (`satexport.audio.strong`). The audio of a clip is read only when it is scored, at the model's sample
rate.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from satexport.audio.clips import Clip
from satexport.audio.files import audio_blocks, audio_suffixes
from satexport.audio.labels import audioset_mids, esc50_to_audioset
from satexport.audio.scenes import scene_set
from satexport.audio.strong import read_strong
from satexport.audio.synthetic import SPLITS, SYNTHETIC_CLASSES, synthetic_clip, synthetic_labels
from satexport.audio.tables import read_cells, read_lines, read_rows
from satexport.errors import DataError
from satexport.terminal import clipped

SYNTHETIC_CLIPS = 10 * len(SYNTHETIC_CLASSES)  # ten clips for each class
AUDIOSET_COLUMNS = ("YTID", "start_seconds", "end_seconds", "positive_labels")
LAYOUTS = ('expected the word "synthetic" or "scenes", a folder with meta/esc50.csv and audio/, a list in '
           "AudioSet style, a csv with the columns filename,labels, or a .tsv with strong labels.")
CATEGORY_MAP = "expected a category map, a csv with the columns category,label."


@dataclass(frozen=True, kw_only=True)
class LabelledSet:
    """Clips with labels of the model."""

    name: str
    clips: tuple[Clip, ...]
    classes: tuple[str, ...]   # labels that at least one clip has, in the model's order
    origin: dict[str, object]  # for reports

    @property
    def has_events(self) -> bool:
        """Whether all clips have strong labels."""
        return all(clip.events is not None for clip in self.clips)

    def truth(self, labels: Sequence[str]) -> NDArray[np.bool_]:
        """Which clip has which label: [clips, labels]."""
        return np.array([[label in clip.labels for label in labels] for clip in self.clips])


def load_set(data: str | Path, labels: Sequence[str], *, folds: Sequence[int] | None = None,
             category_map: Path | None = None, may_miss_files: bool = False) -> LabelledSet:
    """Find the clips of `data` and map their categories to the model's labels.

    A category is mapped by `category_map` (a csv `category,label`) if that lists it, otherwise to the label
    of the same name, otherwise by the shipped ESC-50 table. `folds` selects clips of a set in ESC-50 layout.
    With `may_miss_files`, files that do not exist are noticed only when they are read. Raises `DataError` if
    clips, files or labels are missing.
    """
    path = Path(data)
    if data == "synthetic":
        reader = _read_synthetic
    elif data == "scenes":
        reader = scene_set
    elif not os.path.exists(path):  # Path.exists raises an error for a name that is too long
        raise DataError(f"{path}: does not exist; {LAYOUTS}")
    elif is_esc50(path):
        return _map_labels(*_read_esc50(path, folds, may_miss_files), labels, category_map)
    elif path.suffix.lower() == ".tsv":
        reader = partial(read_strong, path, may_miss_files)
    else:
        reader = partial(_read_list, path, may_miss_files)
    if folds is not None:
        raise DataError(f"{data}: has no folds; only a set in ESC-50 layout has them. Omit --folds.")
    return _map_labels(*reader(), labels, category_map)


def choosing_scenes(labels: Sequence[str]) -> LabelledSet:
    """The synthetic scenes that no gate uses. Raises `DataError` if the model lacks their labels."""
    return _map_labels(*scene_set("choose"), labels, None)


def is_esc50(data: str | Path) -> bool:
    """Whether this is a folder in ESC-50 layout."""
    return os.path.isfile(Path(data) / "meta" / "esc50.csv")


def _map_labels(entries: list[Clip], origin: dict[str, object], labels: Sequence[str],
                category_map: Path | None) -> LabelledSet:
    """The set of these entries, with every category mapped to a label of the model."""
    user_map = _read_category_map(category_map) if category_map else {}
    shipped_map = esc50_to_audioset()
    known = set(labels)
    label_of: dict[str, str] = {}
    unmapped = []
    for category in sorted({c for entry in entries for c in entry.labels}):
        choices = ([user_map[category]] if category in user_map
                   else [category, shipped_map.get(category, "")])
        label = next((c for c in choices if c in known), None)
        if label is None:
            unmapped.append(category)
        else:
            label_of[category] = label
    source = origin["folder"] if "folder" in origin else origin["kind"]
    if unmapped:
        lines = {event.label: event.line for entry in reversed(entries)
                 for event in reversed(entry.events or ())}
        named = [f"{clipped(name)} (line {lines[name]})" if lines.get(name) else name for name in unmapped]
        raise DataError(f"{source}: the model has no label for {_list_some(named)}. Map these categories "
                        "to its labels with a category map, a csv with the columns category,label.")
    clips = tuple(Clip(entry.name, tuple(dict.fromkeys(label_of[c] for c in entry.labels)), entry.blocks,
                       entry.events and tuple(replace(event, label=label_of[event.label])
                                              for event in entry.events), entry.file)
                  for entry in entries)
    present = {label for clip in clips for label in clip.labels}
    if not present:
        raise DataError(f"{source}: no clip has a label; expected at least one.")
    if category_map:
        origin = origin | {"category_map": str(category_map)}
    return LabelledSet(name=str(source), clips=clips, classes=tuple(x for x in labels if x in present),
                       origin=origin | {"clips": len(clips)})


def _list_some(names: Sequence[str]) -> str:
    """'a, b, c and 4 more', with long names shortened."""
    more = f" and {len(names) - 3} more" if len(names) > 3 else ""
    return ", ".join(map(clipped, names[:3])) + more


def _check_listed_once(list_path: Path, folder: Path, names: Iterable[tuple[int, str]]) -> None:
    """Raise `DataError` if two lines name the same file of this folder, in whatever spelling: it would count
    twice, each time with only some of its labels. Links and copies count as separate files."""
    first_line: dict[str, int] = {}
    for number, name in names:
        file = os.path.normcase(os.path.abspath(folder / name))
        if first_line.setdefault(file, number) != number:
            raise DataError(f"{list_path}, line {number}: {name} is already listed in line "
                            f"{first_line[file]}; expected one line per clip, with all of its labels.")


def _read_category_map(path: Path) -> dict[str, str]:
    labels: dict[str, str] = {}
    for number, row in read_rows(path, read_lines(path, CATEGORY_MAP), ("category", "label")):
        if labels.setdefault(row["category"], row["label"]) != row["label"]:
            raise DataError(f"{path}, line {number}: maps {row['category']} to {row['label']}, an earlier "
                            f"line to {labels[row['category']]}; expected one label per category.")
    return labels


def _read_synthetic() -> tuple[list[Clip], dict[str, object]]:
    split, seeds = "evaluate", SPLITS["evaluate"]
    clips = synthetic_clips(split, range(SYNTHETIC_CLIPS))
    return clips, {"kind": "synthetic", "split": split,
                   "seeds": [seeds[0], seeds[SYNTHETIC_CLIPS - 1]]}


def synthetic_clips(split: str, indices: range) -> list[Clip]:
    """The synthetic clips of a split with these indices."""
    return [Clip(f"{split}-{i}", synthetic_labels(split, i), partial(_synthetic_audio, split, i))
            for i in indices]


def _synthetic_audio(split: str, index: int, rate: int) -> Iterator[NDArray[np.float32]]:
    yield synthetic_clip(split, index, rate=rate)[0]


def _read_esc50(folder: Path, folds: Sequence[int] | None, may_miss_files: bool = False
                ) -> tuple[list[Clip], dict[str, object]]:
    meta = folder / "meta" / "esc50.csv"
    table = read_rows(meta, read_lines(meta, LAYOUTS), ("filename", "fold", "category"), ("esc10",), LAYOUTS)
    fold_of = [_parse_fold(meta, number, row["fold"]) for number, row in table]
    available = sorted(set(fold_of))
    selected = available if folds is None else folds
    if absent := [fold for fold in selected if fold not in available]:
        raise DataError(f"{meta}: no clip in fold {', '.join(map(str, absent))}; it has the folds "
                        f"{', '.join(map(str, available))}: choose with --folds.")
    _check_listed_once(meta, folder / "audio", ((number, row["filename"]) for number, row in table))
    rows = [row for fold, (_, row) in zip(fold_of, table, strict=True) if fold in selected]
    entries = [_file_clip(folder / "audio", row["filename"], row["category"]) for row in rows]
    if not may_miss_files:
        _check_files_exist(meta, [folder / "audio" / entry.name for entry in entries])
    esc10 = all(row.get("esc10") == "True" for row in rows)
    return entries, {"kind": "esc50", "folder": str(folder),
                     "folds": [str(fold) for fold in available if fold in selected],
                     # as stated in the LICENSE file of the data set
                     "licence": "CC BY (ESC-10)" if esc10 else "CC BY-NC 3.0 (ESC-50)"}


def _file_clip(folder: Path, name: str, *labels: str) -> Clip:
    """The clip in a file of a folder, without strong labels."""
    return Clip(name, labels, partial(audio_blocks, folder / name), file=folder / name)


def _parse_fold(meta: Path, number: int, text: str) -> int:
    if not re.fullmatch("[0-9]{1,4}", text):
        raise DataError(f"{meta}, line {number}: the fold is {text[:20]!r}, expected a number such as 4.")
    return int(text)


def esc50_clips(folder: Path, folds: Sequence[int] | None) -> list[Clip]:
    """The clips of a set in ESC-50 layout, labelled with its own categories."""
    return _read_esc50(folder, folds)[0]


def _check_files_exist(list_path: Path, files: Sequence[Path]) -> None:
    missing = [file.name for file in files if not os.path.isfile(file)]
    if missing:
        raise DataError(f"{list_path}: {len(missing)} of {len(files)} audio files are missing in "
                        f"{files[0].parent} ({_list_some(missing)}). Add them.")


def _read_list(path: Path, may_miss_files: bool) -> tuple[list[Clip], dict[str, object]]:
    """Read a csv in AudioSet style or with filename,labels, or a folder that holds exactly one csv."""
    if os.path.isdir(path):
        lists = sorted(path.glob("*.csv"))
        if len(lists) != 1:
            found = _list_some([file.name for file in lists]) or "no csv"
            raise DataError(f"{path}: {found} in this folder; {LAYOUTS} Name the list itself.")
        path = lists[0]
    lines = read_lines(path, LAYOUTS)
    first = next((line for line in lines if line.strip()), None)
    if first is None:
        raise DataError(f"{path}: is empty; {LAYOUTS}")
    if first.startswith("#"):
        return _read_audioset(path, lines)
    table = read_rows(path, lines, ("filename", "labels"), expected=LAYOUTS)
    _check_listed_once(path, path.parent, ((number, row["filename"]) for number, row in table))
    if not may_miss_files:
        _check_files_exist(path, [path.parent / row["filename"] for _, row in table])
    entries = [_file_clip(path.parent, row["filename"],
                          *(x.strip() for x in row["labels"].split(";") if x.strip())) for _, row in table]
    return entries, {"kind": "csv", "folder": str(path)}


def _read_audioset(path: Path, lines: Sequence[str]) -> tuple[list[Clip], dict[str, object]]:
    """Read a list `# YTID, start_seconds, end_seconds, positive_labels`, with the label ids in quotes.

    The audio of a line is in the folder of the list or in its subfolder `audio/`, under the name YTID, YYTID,
    YTID_30 or YTID_30000 (start in seconds or milliseconds) with any suffix that soundfile reads. Lines
    without audio are skipped; the origin has their number and names.
    """
    suffixes = audio_suffixes()
    files = {file.stem: file for folder in (path.parent, path.parent / "audio") if folder.is_dir()
             for file in sorted(folder.iterdir()) if file.suffix.lower() in suffixes}
    names_by_mid = audioset_mids()
    entries, missing, listed = [], [], []
    for number, cells in read_cells(path, ("" if line.startswith("#") else line for line in lines)):
        try:
            video, start, _, positive = cells
            seconds = float(start)
        except ValueError:
            raise DataError(f"{path}, line {number}: is {','.join(cells)[:80]!r}; expected "
                            f"{', '.join(AUDIOSET_COLUMNS)}, the labels in quotes.") from None
        stems = (video, f"Y{video}", f"{video}_{seconds:.0f}", f"{video}_{1000 * seconds:.0f}")
        file = next((files[stem] for stem in stems if stem in files), None)
        if file is None:
            missing.append(video)
            continue
        mids = (mid.strip() for mid in positive.split(",") if mid.strip())
        categories = tuple(names_by_mid.get(mid, mid) for mid in mids)
        entries.append(_file_clip(file.parent, file.name, *categories))
        listed.append((number, file.name))
    _check_listed_once(path, path.parent, listed)
    if not entries:
        raise DataError(f"{path}: none of its {len(missing)} clips is in {path.parent} or "
                        f"{path.parent / 'audio'} ({_list_some(missing)}); expected files such as "
                        f"{missing[0] if missing else 'YTID'}.wav.")
    return entries, {"kind": "audioset", "folder": str(path), "missing": len(missing),
                     "missing_clips": missing, "licence": "labels CC BY 4.0 (AudioSet)"}

