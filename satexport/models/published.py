"""Published checkpoints, downloaded on demand to the user's cache folder; a file there is always complete."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final
from urllib.parse import quote

from satexport.download import fetch
from satexport.errors import CheckpointError
from satexport.files import download_folder
from satexport.models.family import Published
from satexport.models.weightfile import check_download

MIRROR: Final = "SATEXPORT_MIRROR"  # variable: the address of a folder that has all published files


@contextmanager
def fetch_published(published: Published) -> Iterator[Path]:
    """Give the path of a published file to a block that reads it. A file in the cache folder is used,
    whether it was downloaded or put there by hand; otherwise it is downloaded.

    If no checksum was published, a file that the block could read gets its SHA-256 noted next to it in
    `NAME.sha256`, and must have that SHA-256 from then on. Raises `CheckpointError` if the file must be
    fetched by hand, the SHA-256 differs or the block raises one, `RunError` if the download fails.
    """
    name, url = published.file, _find_url(published)
    path = download_folder() / "published" / name
    source = f"Or fetch {url}" if url else f"Fetch {name} from {published.page}"
    by_hand = f"{source} by hand and put it at {path}"
    fetched = not path.exists()
    if fetched:
        if url is None:
            hub = f", or pass --checkpoint hub:{published.hub}" if published.hub else ""
            raise CheckpointError(f"{name} has no direct address: fetch it from {published.page} and put it "
                                  f"at {path}{hub}; --checkpoint random needs no file.")
        fetch(url, path, f"{by_hand}; --checkpoint demo and random need no file.")
    with check_download(path, path.with_name(f"{name}.sha256"), published.sha256):
        try:
            yield path
        except CheckpointError as error:
            if fetched:
                path.unlink(missing_ok=True)
            what = "The downloaded file was removed. " if fetched else "Remove it to download it again. "
            raise CheckpointError(f"{error} {what if url else ''}{by_hand}.") from None


def _find_url(published: Published) -> str | None:
    if mirror := os.environ.get(MIRROR):
        return f"{mirror}/{quote(published.file)}"
    return published.url
