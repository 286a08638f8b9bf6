"""What is fetched on demand: the published checkpoints, and ESC-50 to prove a bundle with.

Both go to the user's cache folder, and each is whole or not there.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Final

from satexport.download import fetch
from satexport.errors import CheckpointError, RunError
from satexport.files import download_folder, sha256_of, write_text
from satexport.models.sat.variants import Variant

ZENODO: Final = "https://zenodo.org/record/7964975/files"  # or $SATEXPORT_ZENODO
PUBLISHED: Final = {  # a ViT file serves its model at every delay
    "sat-t-2s": "SAT_T_stream2s_mAP_43_34.pt",
    "sat-t-1s": "SAT_T_stream1s_mAP_40_11.pt",
    "sat-s-2s": "SAT_S_stream2s_mAP_43_37.pt",
    "sat-s-1s": "SAT_S_stream1s_mAP_40_55.pt",
    "sat-b-2s": "SAT_B_stream2s_mAP_45_29.pt",
    "sat-b-1s": "SAT_B_stream1s_mAP_41_37.pt",
    "vit-t": "audiotransformer_tiny_mAP_44_15.pt",
    "vit-s": "audiotransformer_small_mAP_45_68.pt",
    "vit-b": "audiotransformer_base_mAP_47_40.pt",
}


@contextmanager
def published(variant: Variant) -> Iterator[Path]:
    """Give the published file of a variant to a block that reads it: the one in the cache folder,
    put there by hand or before, else fetched.

    No checksum was published. The SHA-256 of a file that the block could read is noted beside it
    as `NAME.sha256`, and from then on the file must have it. Raises `CheckpointError` where it has
    another, or where the block does, and `RunError` where nothing can be fetched.
    """
    name = PUBLISHED[variant.name if variant.has_cache else variant.model]
    path = download_folder() / "published" / name
    url = f"{os.environ.get('SATEXPORT_ZENODO') or ZENODO}/{name}?download=1"
    by_hand = f"Or fetch {url} by hand and put it at {path}"
    fetched = not path.exists()
    if fetched:
        fetch(url, path, f"{by_hand}; --checkpoint demo and random need no file.")
    note = path.with_name(f"{name}.sha256")
    try:
        sha256, known = sha256_of(path), _noted(note)
    except OSError as error:
        raise CheckpointError(f"{path}: cannot be read ({error.strerror or error}); expected a checkpoint "
                              "file that you may read.") from None
    if known not in (None, sha256):
        raise CheckpointError(
            f"{path}: has SHA-256 {sha256[:12]}..., expected {known} as at its first use ({note.name}): "
            f"the file was changed or damaged. Remove it, and it is fetched again; if you trust it as it "
            f"is, remove {note.name}.")
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


def _noted(note: Path) -> str | None:
    """The SHA-256 in a note, whatever stands for it in a damaged one, None without one."""
    try:
        return note.read_text(encoding="utf-8", errors="replace").partition(" ")[0][:64]
    except FileNotFoundError:
        return None

