"""ESC-50, a labelled set of recordings: downloaded on demand, complete or not at all."""

from __future__ import annotations

import os
import re
import shutil
import stat
import zipfile
from collections.abc import Callable
from pathlib import Path, PurePosixPath
from typing import Final

from satexport.download import fetch
from satexport.errors import RunError, SatexportError
from satexport.files import download_folder, staged_folder
from satexport.progress import progress

ESC50: Final = "https://github.com/karoldvl/ESC-50/archive/master.zip"  # or $SATEXPORT_ESC50_URL
ESC50_NOTICE: Final = (
    "ESC-50 by Karol J. Piczak, about 600 MB. Its licence is CC BY-NC 3.0 (not for commercial use), "
    "that of its subset ESC-10 CC BY 3.0; the authors of the clips are named in its file LICENSE.")


def cached_esc50() -> Path:
    """The folder into which `satexport data esc50` downloads ESC-50; it may not exist yet."""
    return download_folder() / "ESC-50"


def fetch_esc50(output: Path | None, announce: Callable[[str], None]) -> Path:
    """Return the folder ESC-50 in `output` or in the cache folder. If it does not exist, announce the
    licence, download the set and unpack it; the folder appears only when complete. Raises `RunError`."""
    folder = output / "ESC-50" if output else cached_esc50()
    if os.path.isfile(folder / "meta" / "esc50.csv"):
        return folder
    if os.path.exists(folder):
        raise RunError(f"{folder}: already exists and is not ESC-50; it was not changed. Move it away or "
                       "choose another --output.")
    announce(ESC50_NOTICE)
    url = os.environ.get("SATEXPORT_ESC50_URL") or ESC50
    archive = folder.with_name(".ESC-50.zip")
    fetch(url, archive, f"Alternatively choose another --output, or download {url} yourself, unpack it, and "
                        "pass its folder to parity with --data.")
    with staged_folder(folder, may_replace=lambda _: False) as stage:
        try:
            _unpack(archive, stage)
        except (SatexportError, OSError):
            raise
        except Exception as error:  # a damaged or malicious archive can raise anything
            archive.unlink(missing_ok=True)
            raise RunError(f"{url}: the downloaded file cannot be unpacked ({error}); expected the zip of "
                           "ESC-50. It was removed: run the command again.") from None
    archive.unlink(missing_ok=True)
    return folder


def _unpack(archive: Path, folder: Path) -> None:
    """Unpack the content of the archive's top folder into `folder`. Raises `BadZipFile` for links, devices
    and paths that lead elsewhere."""
    with zipfile.ZipFile(archive) as file, progress("unpacking", len(file.infolist())) as advance:
        for entry in file.infolist():
            parts = PurePosixPath(entry.filename).parts
            if {"/", ".."} & {*parts} or re.search(r"[\\:]", entry.filename):
                raise zipfile.BadZipFile(f"{entry.filename!r} points outside the folder")
            if stat.S_IFMT(entry.external_attr >> 16) not in (0, stat.S_IFREG, stat.S_IFDIR):
                raise zipfile.BadZipFile(f"{entry.filename!r} is a link or a device")
            if parts[1:] and not entry.is_dir():
                path = folder.joinpath(*parts[1:])
                path.parent.mkdir(parents=True, exist_ok=True)
                with file.open(entry) as source, path.open("wb") as destination:
                    shutil.copyfileobj(source, destination)
            advance()
    if not (folder / "meta" / "esc50.csv").is_file():
        raise zipfile.BadZipFile("it has no meta/esc50.csv")
