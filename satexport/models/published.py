"""What is fetched on demand: the published checkpoints, and ESC-50 to prove a bundle with.

Both go to the user's cache folder, and each is whole or not there.
"""

from __future__ import annotations

import os
import re
import shutil
import stat
import zipfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path, PurePosixPath
from typing import Final

from satexport.download import fetch
from satexport.errors import CheckpointError, RunError, SatexportError
from satexport.files import cache_folder, sha256_of, staged_folder, write_text
from satexport.models.sat.variants import Variant
from satexport.report.terminal import progress

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
ESC50: Final = "https://github.com/karoldvl/ESC-50/archive/master.zip"  # or $SATEXPORT_ESC50_URL
ESC50_NOTICE: Final = (
    "ESC-50 by Karol J. Piczak, about 600 MB. Its licence is CC BY-NC 3.0 (not for commercial use), "
    "that of its subset ESC-10 CC BY 3.0; the authors of the clips are named in its file LICENSE.")


@contextmanager
def published(variant: Variant) -> Iterator[Path]:
    """Give the published file of a variant to a block that reads it: the one in the cache folder,
    put there by hand or before, else fetched.

    No checksum was published. The SHA-256 of a file that the block could read is noted beside it
    as `NAME.sha256`, and from then on the file must have it. Raises `CheckpointError` where it has
    another, or where the block does, and `RunError` where nothing can be fetched.
    """
    name = PUBLISHED[variant.name if variant.has_cache else variant.model]
    path = _cache_folder() / "published" / name
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


def _cache_folder() -> Path:
    try:
        return cache_folder()
    except RuntimeError as error:
        raise RunError(f"no folder for downloads ({error}); expected a home folder or "
                       "$SATEXPORT_CACHE: set SATEXPORT_CACHE=DIR.") from None


def cached_esc50() -> Path:
    """Where `satexport data esc50` puts ESC-50, whether it is there or not."""
    return _cache_folder() / "ESC-50"


def fetch_esc50(output: Path | None, announce: Callable[[str], None]) -> Path:
    """Return the folder ESC-50 in `output` or the cache folder; where it is not there, announce
    the licence, fetch it and unpack it, as a whole. Raises `RunError`."""
    folder = output / "ESC-50" if output else cached_esc50()
    if os.path.isfile(folder / "meta" / "esc50.csv"):
        return folder
    if os.path.exists(folder):
        raise RunError(f"{folder}: exists and is no ESC-50; it is left alone. Move it away or choose "
                       "another --output.")
    announce(ESC50_NOTICE)
    url = os.environ.get("SATEXPORT_ESC50_URL") or ESC50
    archive = folder.with_name(".ESC-50.zip")
    fetch(url, archive, f"Or choose another --output; or fetch {url} by hand, unpack it, and pass its "
                        "folder to parity with --data.")
    with staged_folder(folder, may_replace=lambda _: False) as stage:
        try:
            _unpack(archive, stage)
        except (SatexportError, OSError):
            raise
        except Exception as error:  # a damaged or hostile archive raises anything
            archive.unlink(missing_ok=True)
            raise RunError(f"{url}: what came cannot be unpacked ({error}); expected the zip of ESC-50. "
                           "It was removed: run the command again.") from None
    archive.unlink(missing_ok=True)
    return folder


def _unpack(archive: Path, folder: Path) -> None:
    """Unpack what is under the one folder in the archive; only files and folders, only into here."""
    with zipfile.ZipFile(archive) as file, progress("unpacking", len(file.infolist())) as advance:
        for entry in file.infolist():
            parts = PurePosixPath(entry.filename).parts
            if {"/", ".."} & {*parts} or re.search(r"[\\:]", entry.filename):
                raise zipfile.BadZipFile(f"{entry.filename!r} leads out of the folder")
            if stat.S_IFMT(entry.external_attr >> 16) not in (0, stat.S_IFREG, stat.S_IFDIR):
                raise zipfile.BadZipFile(f"{entry.filename!r} is a link or a device")
            if parts[1:] and not entry.is_dir():
                place = folder.joinpath(*parts[1:])
                place.parent.mkdir(parents=True, exist_ok=True)
                with file.open(entry) as source, place.open("wb") as sink:
                    shutil.copyfileobj(source, sink)
            advance()
    if not (folder / "meta" / "esc50.csv").is_file():
        raise zipfile.BadZipFile("it has no meta/esc50.csv")
