"""Published checkpoints, downloaded on demand to the user's cache folder; a file there is always complete."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Final

from satexport.download import fetch
from satexport.errors import CheckpointError, RunError
from satexport.files import download_folder, sha256_of, write_text
from satexport.models.family import Published

MIRRORED: Final = "https://zenodo.org/"  # $SATEXPORT_ZENODO, a folder of files, replaces it


@contextmanager
def fetch_published(published: Published) -> Iterator[Path]:
    """Give the path of a published file to a block that reads it. A file in the cache folder is used,
    whether it was downloaded or put there by hand; otherwise it is downloaded.

    If no checksum was published, a file that the block could read gets its SHA-256 noted next to it in
    `NAME.sha256`, and must have that SHA-256 from then on. Raises `CheckpointError` if the SHA-256 differs or
    the block raises one, `RunError` if the download fails.
    """
    name, url = published.file, _find_url(published)
    path = download_folder() / "published" / name
    by_hand = f"Or fetch {url} by hand and put it at {path}"
    fetched = not path.exists()
    if fetched:
        fetch(url, path, f"{by_hand}; --checkpoint demo and random need no file.")
    note = path.with_name(f"{name}.sha256")
    try:
        sha256, known = sha256_of(path), published.sha256 or _read_note(note)
    except OSError as error:
        raise CheckpointError(f"{path}: cannot be read ({error.strerror or error}); expected a checkpoint "
                              "file that you may read.") from None
    if known not in (None, sha256):
        when, trust = "as published", ""
        if published.sha256 is None:
            when = f"as at its first use ({note.name})"
            trust = f"; if you trust it as it is, remove {note.name}"
        raise CheckpointError(f"{path}: has SHA-256 {sha256[:12]}..., expected {known} {when}: the file was "
                              f"changed or damaged. Remove it to download it again{trust}.")
    try:
        yield path
    except CheckpointError as error:
        if fetched:
            path.unlink(missing_ok=True)
        what = "The downloaded file was removed" if fetched else "Remove it to download it again"
        raise CheckpointError(f"{error} {what}. {by_hand}.") from None
    if known is None:
        with suppress(RunError):  # in a folder that cannot be written the file does not change, either
            write_text(note, f"{sha256}  {name}\n")  # as sha256sum has it


def _find_url(published: Published) -> str:
    mirror = os.environ.get("SATEXPORT_ZENODO")
    if mirror and published.url.startswith(MIRRORED):
        return f"{mirror}/{published.url.rpartition('/')[2]}"
    return published.url


def _read_note(note: Path) -> str | None:
    """Return the SHA-256 in a note, or its first 64 characters if the note is damaged; None without a
    note."""
    try:
        return note.read_text(encoding="utf-8", errors="replace").partition(" ")[0][:64]
    except FileNotFoundError:
        return None

