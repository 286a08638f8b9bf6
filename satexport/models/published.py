"""Published checkpoints, fetched on demand to the user's cache folder; each is whole or not there."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from satexport.download import fetch
from satexport.errors import CheckpointError
from satexport.files import download_folder
from satexport.models.family import Published
from satexport.models.weightfile import check_download

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
    with check_download(path, path.with_name(f"{name}.sha256"), published.sha256):
        try:
            yield path
        except CheckpointError as error:
            if fetched:
                path.unlink(missing_ok=True)
            what = "It came so from the server and was removed" if fetched else "Remove it to fetch it again"
            raise CheckpointError(f"{error} {what}. {by_hand}.") from None


def _find_url(published: Published) -> str:
    mirror = os.environ.get("SATEXPORT_ZENODO")
    if mirror and published.url.startswith(MIRRORED):
        return f"{mirror}/{published.url.rpartition('/')[2]}"
    return published.url
