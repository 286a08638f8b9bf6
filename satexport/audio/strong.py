"""Strong labels: lists of the sounds in recordings, with the begin and end of each.

Two kinds of .tsv, told apart by their header, tabs between the cells:

    segment_id  start_time_seconds  end_time_seconds  label        AudioSet-strong, labels as machine ids
    filename    onset               offset            event_label  DCASE

A recording is in the folder of the list or in its subfolder `audio/`.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path

from satexport.audio.clips import MAX_CLIP_SECONDS, Clip, SoundEvent
from satexport.audio.files import audio_blocks, audio_suffixes
from satexport.audio.labels import audioset_mids
from satexport.audio.tables import read_lines
from satexport.errors import DataError
from satexport.terminal import shown

AUDIOSET = ("segment_id", "start_time_seconds", "end_time_seconds", "label")
DCASE = ("filename", "onset", "offset", "event_label")
EXPECTED = (f"expected tabs between the columns {', '.join(AUDIOSET)} (AudioSet-strong) or "
            f"{', '.join(DCASE)} (DCASE).")
MID = re.compile(r"/[gmt]/[\w-]+")   # a machine id of AudioSet


def read_strong(path: Path, may_miss_files: bool = False) -> tuple[list[Clip], dict[str, object]]:
    """Return the recordings of a list with their events, labelled with its own categories, and its origin.

    AudioSet-strong has machine ids that AudioSet's 527 classes lack: their events are left out, and the
    origin has their number; so it has that of recordings without audio. In a DCASE list, a row with a file
    name only is a recording without events. Raises `DataError` for a row that does not fit and, in a DCASE
    list and without `may_miss_files`, for a missing recording.
    """
    lines = read_lines(path, EXPECTED)
    header = tuple(cell.strip() for cell in lines[0].split("\t"))
    if header not in (AUDIOSET, DCASE):
        raise DataError(f"{path}: its first line is {shown(lines[0])}; {EXPECTED}")
    events: dict[str, list[SoundEvent]] = {}
    for name, event in _rows(path, lines[1:], header):
        events.setdefault(name, []).extend([event] if event else [])
    if not events:
        raise DataError(f"{path}: has no rows below its header; expected at least one.")
    return _audioset(path, events) if header == AUDIOSET else _dcase(path, events, may_miss_files)


def _rows(path: Path, lines: Sequence[str], header: Sequence[str]) -> Iterator[tuple[str, SoundEvent | None]]:
    """Yield the recording and the event of each row; None: a recording without events."""
    for number, line in enumerate(lines, start=2):
        if not line.strip():
            continue
        cells = [cell.strip() for cell in line.split("\t")]
        where = f"{path}, line {number}"
        if len(cells) == 1 and header == DCASE:
            cells += ["", "", ""]
        if len(cells) != len(header) or not cells[0]:
            raise DataError(f"{where}: is {shown(line)}; expected {', '.join(header)}, with tabs between "
                            "them.")
        name, onset, offset, label = cells
        if header == DCASE and not (onset or offset or label):
            yield name, None
            continue
        try:
            begin, end = float(onset), float(offset)
        except ValueError:
            raise DataError(f"{where}: the times are {shown(onset)} and {shown(offset)}; expected numbers of "
                            "seconds.") from None
        if not 0 <= begin < end <= MAX_CLIP_SECONDS:
            raise DataError(f"{where}: the event lasts from {onset} to {offset} s; expected it to end after "
                            f"it begins, within 0 to {MAX_CLIP_SECONDS} s.")
        if not label:
            raise DataError(f"{where}: the event has no label; expected one in the column {header[3]}.")
        yield name, SoundEvent(begin, end, label, number)


def _clip(name: str, file: Path, events: Sequence[SoundEvent]) -> Clip:
    labels = tuple(dict.fromkeys(event.label for event in events))
    return Clip(name, labels, partial(audio_blocks, file), tuple(events), file)


def _dcase(path: Path, events: dict[str, list[SoundEvent]], may_miss_files: bool
           ) -> tuple[list[Clip], dict[str, object]]:
    """The clips of a DCASE list."""
    clips, missing = [], []
    for name, found in events.items():
        files = [folder / name for folder in (path.parent, path.parent / "audio")]
        file = next(filter(os.path.isfile, files), None)
        clips.append(_clip(name, file or files[0], found))
        if not file:
            missing.append(name)
    if missing and not may_miss_files:
        raise DataError(f"{path}: {len(missing)} of {len(events)} audio files are missing in {path.parent} "
                        f"and its audio/, such as {shown(missing[0])}. Add them.")
    return clips, {"kind": "dcase", "folder": str(path), "events": sum(map(len, events.values()))}


def _audioset(path: Path, events: dict[str, list[SoundEvent]]) -> tuple[list[Clip], dict[str, object]]:
    """The clips of an AudioSet-strong list. The id of a segment is that of its video, and its start in ms:
    its file is named after the segment or the video, also with a Y in front, or has the start in s."""
    suffixes, names, ignored = audio_suffixes(), audioset_mids(), 0
    files = {file.stem: file for folder in (path.parent, path.parent / "audio") if folder.is_dir()
             for file in sorted(folder.iterdir()) if file.suffix.lower() in suffixes}
    clips, missing = [], []
    for segment, found in events.items():
        video, _, start = segment.rpartition("_")
        stems = [segment, f"Y{segment}"]
        if start.isdecimal():
            stems += [f"{video}_{int(start) // 1000}", video, f"Y{video}"]
        file = next((files[stem] for stem in stems if stem in files), None)
        if file is None:
            missing.append(segment)
            continue
        known = [replace(event, label=names.get(event.label, event.label)) for event in found
                 if event.label in names or not MID.fullmatch(event.label)]
        ignored += len(found) - len(known)
        clips.append(_clip(file.name, file, known))
    if not clips:
        raise DataError(f"{path}: none of its {len(missing)} recordings is in {path.parent} or its audio/; "
                        f"expected files such as {missing[0]}.wav.")
    return clips, {"kind": "audioset-strong", "folder": str(path), "missing": len(missing),
                   "missing_clips": missing, "ignored_events": ignored,
                   "events": sum(len(clip.events or ()) for clip in clips),
                   "licence": "labels CC BY 4.0 (AudioSet)"}
