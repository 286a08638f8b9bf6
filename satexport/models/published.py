"""Published checkpoints, fetched on demand to the user's cache folder; each is whole or not there."""

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

MIRRORED: Final = "https://zenodo.org/"  # what $SATEXPORT_ZENODO stands in for, a folder of files


@contextmanager
def fetch_published(published: Published) -> Iterator[Path]:
    """Give a published file to a block that reads it: the one in the cache folder,
    put there by hand or before, else fetched.

    If no checksum was published, the SHA-256 of a file that the block could read is noted beside it
    as `NAME.sha256`, and from then on the file must have it. Raises `CheckpointError` if it has
    another, or if the block does, and `RunError` if nothing can be fetched.
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
                              f"changed or damaged. Remove it, and it is fetched again{trust}.")
    try:
        yield path
    except CheckpointError as error:
        if fetched:
            path.unlink(missing_ok=True)
        what = "It came so from the server and was removed" if fetched else "Remove it to fetch it again"
        raise CheckpointError(f"{error} {what}. {by_hand}.") from None
    if known is None:
        with suppress(RunError):  # a folder that cannot be written keeps the file as it is, too
            write_text(note, f"{sha256}  {name}\n")  # as sha256sum has it


def _find_url(published: Published) -> str:
    mirror = os.environ.get("SATEXPORT_ZENODO")
    if mirror and published.url.startswith(MIRRORED):
        return f"{mirror}/{published.url.rpartition('/')[2]}"
    return published.url


def _read_note(note: Path) -> str | None:
    """The SHA-256 in a note, whatever stands for it in a damaged one, None without one."""
    try:
        return note.read_text(encoding="utf-8", errors="replace").partition(" ")[0][:64]
    except FileNotFoundError:
        return None

