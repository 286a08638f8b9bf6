"""Results of a long run that are kept on disk until its report is written, so that an interrupt, a full disk
or a crash loses only the groups in work: the same command then goes on from there.

They are in a folder beside the report, whose name ends in a fingerprint of everything that affects them.
"""

from __future__ import annotations

import hashlib
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from satexport.audio.clips import Clip
from satexport.files import json_text, write_bytes, write_json, write_text
from satexport.parity.groups import Group, group_from_bytes, group_to_bytes
from satexport.terminal import note

UNREADABLE = "unreadable.txt"


class Kept:
    """The groups that are finished. They are kept beside a file, which is written at the end of the run."""

    def __init__(self, beside: Path) -> None:
        self._beside = beside
        self._stamps: list[str] = []

    def begin(self, facts: Mapping[str, Any], groups: Sequence[Sequence[Clip]]) -> None:
        """Choose the folder by a run's facts. Results of another run are left alone, and a note says so."""
        fingerprint = hashlib.sha256(json_text(facts).encode()).hexdigest()[:12]
        self._stamps = [_stamp(clips) for clips in groups]
        prefix = f"{self._beside.name}.partial-"
        self.folder = self._beside.with_name(prefix + fingerprint)
        if not (self.folder / "run.json").exists():
            write_json(self.folder / "run.json", facts)
        for other in sorted(self._beside.parent.iterdir()):
            if other.name.startswith(prefix) and other != self.folder:
                note(f"{other} has results of a run that was not finished, with another bundle, other data, "
                     "options or versions. They are not used: remove the folder if you do not need them.")

    def read(self, number: int) -> Group | None:
        """The group of this number; None if it is not finished, is damaged, or a recording has changed."""
        try:
            return group_from_bytes(self._file(number).read_bytes())
        except OSError:
            return None

    def write(self, group: Group) -> None:
        """Keep a group. Raises `RunError` if its file cannot be written."""
        write_bytes(self._file(group.number), group_to_bytes(group))

    def list_unreadable(self, lines: Sequence[str]) -> Path:
        """Write the list of clips that cannot be read, and return its path."""
        write_text(self.folder / UNREADABLE, "".join(f"{line}\n" for line in lines))
        return self.folder / UNREADABLE

    def remove(self) -> None:
        """Remove the folder: the file beside it is written."""
        if self._stamps:
            shutil.rmtree(self.folder, ignore_errors=True)

    def _file(self, number: int) -> Path:
        return self.folder / f"{number:06}-{self._stamps[number]}.npz"


def _stamp(clips: Sequence[Clip]) -> str:
    """Eight digits that change if a recording of these clips is replaced, added or removed."""
    digest = hashlib.sha256()
    for clip in clips:
        try:
            status = clip.file.stat() if clip.file else None
        except OSError:
            status = None
        digest.update(f"{status and (status.st_size, status.st_mtime_ns)}\n".encode())
    return digest.hexdigest()[:8]
