"""The plan of a run: which recordings, cut into which pieces, in which parts.

A piece is a whole recording, or some of the chunks of a long one; scores that depend on earlier chunks make
no difference, because a worker begins as many chunks earlier as the model remembers. A part is what a task
works on and what is written as one file: one piece of a long recording, or several short recordings. The plan
depends on the recordings only, and not on the workers.
"""

from __future__ import annotations

import glob
import os
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from satexport.audio.files import audio_length, audio_suffixes
from satexport.errors import DataError
from satexport.progress import progress

LIST_SUFFIXES = (".txt", ".lst")   # of a file with one recording per line
PIECE_SECONDS = 600, 3600          # shortest and longest piece of a long recording, if nobody says
PART_SECONDS = 60, 3600            # likewise, short recordings together
PIECES, PARTS = 64, 256            # that a run has at least, if the lengths above allow it
MOST_RECORDINGS = 500              # of a part
READERS = 16                       # threads that read headers


@dataclass(frozen=True, kw_only=True)
class Recording:
    """A file of the archive."""

    name: str          # as the user calls it, in the column "input"
    path: str          # absolute
    size: int          # bytes
    seconds: float     # by its header; 0: it cannot be opened, or does not say
    is_seekable: bool  # it can be cut into pieces


@dataclass(frozen=True, kw_only=True)
class Piece:
    """Consecutive chunks of a recording."""

    recording: Recording
    begin: int = 0            # first chunk
    end: int | None = None    # after the last one; None: to the end of the recording

    @property
    def is_whole(self) -> bool:
        return self.begin == 0 and self.end is None


@dataclass(frozen=True, kw_only=True)
class Part:
    """The pieces of one task."""

    number: int
    pieces: tuple[Piece, ...]
    seconds: float            # of audio, by the headers


def find_recordings(paths: Sequence[str]) -> list[Recording]:
    """The recordings in folders (with their subfolders; hidden files are left out), lists, globs and files,
    by name, each once. Raises `DataError` if one of `paths` does not exist or has no recording."""
    suffixes = audio_suffixes()
    found: dict[str, str] = {}  # absolute path -> name
    for path in paths:
        names = list(_expand(path, suffixes))
        if not names:
            raise DataError(f"{path}: no recording is there; expected audio files (such as .wav, .flac, .ogg "
                            "or .mp3), a folder of them, a list (.txt, one per line), or a glob in quotes.")
        for name in names:
            found.setdefault(os.path.abspath(name), name)
    items = sorted(found.items(), key=lambda item: item[1])
    with progress("read headers", len(items)) as advance, ThreadPoolExecutor(READERS) as pool:
        recordings = []
        for recording in pool.map(_read, items):
            recordings.append(recording)
            advance()
    return recordings


def _expand(path: str, suffixes: tuple[str, ...]) -> Iterator[str]:
    """Yield the files that a path of the command line stands for."""
    if os.path.isdir(path):
        for folder, folders, files in os.walk(path, onerror=_raise):
            folders[:] = sorted(name for name in folders if not name.startswith("."))
            for name in files:
                if name.lower().endswith(suffixes) and not name.startswith("."):
                    yield os.path.join(folder, name)
    elif path.lower().endswith(LIST_SUFFIXES):
        yield from _read_list(Path(path))
    elif os.path.exists(path):
        yield path
    elif glob.has_magic(path):
        for name in glob.iglob(path, recursive=True):
            if os.path.isfile(name):
                yield name
    else:
        raise DataError(f"{path}: does not exist; expected an audio file, a folder, a list (.txt) or a glob "
                        "in quotes.")


def _raise(error: OSError) -> None:
    raise DataError(f"{error.filename}: cannot be read ({error.strerror or error}); expected a folder of "
                    "recordings. Check its permissions, or leave it out.")


def _read_list(path: Path) -> Iterator[str]:
    """Yield the recordings that a list names, one per line; relative ones are in the folder of the list. A
    recording that is missing is reported like one that is damaged."""
    try:
        lines = path.read_text(encoding="utf-8-sig").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"{path}: cannot be read ({error}); expected a text file in UTF-8 with one recording "
                        "per line.") from None
    for line in lines:
        if line.strip() and not line.startswith("#"):
            yield os.path.join(path.parent, line.strip())


def _read(item: tuple[str, str]) -> Recording:
    path, name = item
    seconds, is_seekable = audio_length(path)
    try:
        size = os.path.getsize(path)
    except OSError:
        size = 0
    name = os.fsencode(name).decode("utf-8", "backslashreplace")  # Parquet holds UTF-8 only
    return Recording(name=name, path=path, size=size, seconds=seconds, is_seekable=is_seekable)


def plan_parts(recordings: Sequence[Recording], hop_seconds: float, piece_seconds: float | None
               ) -> list[Part]:
    """Cut the recordings into pieces of at most `piece_seconds`, and join short ones to parts. None: pieces
    of 10 minutes to an hour, so that many workers have work."""
    total = sum(recording.seconds for recording in recordings)
    longest = piece_seconds or _clamp(total / PIECES, *PIECE_SECONDS)
    enough = min(longest, _clamp(total / PARTS, *PART_SECONDS))
    parts: list[Part] = []
    waiting: list[Piece] = []

    def close() -> None:
        if waiting:
            seconds = sum(piece.recording.seconds for piece in waiting)
            parts.append(Part(number=len(parts), pieces=tuple(waiting), seconds=seconds))
            waiting.clear()

    for recording in recordings:
        pieces = _cut(recording, hop_seconds, longest)
        if len(pieces) > 1:
            close()
            for piece in pieces:
                seconds = recording.seconds / len(pieces)
                parts.append(Part(number=len(parts), pieces=(piece,), seconds=seconds))
            continue
        waiting += pieces
        if sum(piece.recording.seconds for piece in waiting) >= enough or len(waiting) == MOST_RECORDINGS:
            close()
    close()
    return parts


def _cut(recording: Recording, hop_seconds: float, longest: float) -> list[Piece]:
    """The pieces of a recording, of about the same length; the last one is open, because the header may be
    wrong."""
    count = max(1, -int(-recording.seconds // longest)) if recording.is_seekable else 1
    chunks = max(1, round(recording.seconds / count / hop_seconds))
    begins = [number * chunks for number in range(count)]
    return [Piece(recording=recording, begin=begin, end=end)
            for begin, end in zip(begins, [*begins[1:], None], strict=True)]


def _clamp(value: float, least: float, most: float) -> float:
    return min(max(value, least), most)
