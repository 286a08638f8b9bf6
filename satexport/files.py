"""Files: hashes, the user's cache folder, and writing that is whole or did not happen."""

from __future__ import annotations

import ctypes
import hashlib
import json
import math
import os
import secrets
import shutil
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from satexport.errors import RunError
from satexport.terminal import COMMANDS

PACKAGE_FOLDER = Path(__file__).parent  # the folder of this package; not a real one inside a zip


def sha256_of(path: Path) -> str:
    """Return the SHA-256 of a file, 64 hex digits. Raises `OSError` where it cannot be read."""
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while block := file.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()


def read_at_most(path: Path, most: int) -> bytes:
    """The content of a file of at most so many bytes, for a stranger's file may be of any length.

    Raises `OSError` where it is longer or cannot be read."""
    with path.open("rb") as file:
        content = file.read(most + 1)
    if len(content) > most:
        raise OSError(f"it is longer than {most / 1e6:g} MB, the most that is read")
    return content


def cache_folder() -> Path:
    """Return $SATEXPORT_CACHE, or the folder that the platform has for such files.

    It need not exist. Raises `RuntimeError` where the user has no home folder.
    """
    if chosen := os.environ.get("SATEXPORT_CACHE"):
        return Path(chosen)
    if sys.platform == "win32" and (local := os.environ.get("LOCALAPPDATA")):
        return Path(local) / "satexport" / "Cache"
    if sys.platform == "darwin":
        return Path.home() / "Library" / "Caches" / "satexport"
    if xdg := os.environ.get("XDG_CACHE_HOME"):
        return Path(xdg) / "satexport"
    return Path.home() / ".cache" / "satexport"


def write_json(path: Path, content: Mapping[str, Any]) -> None:
    """Write a JSON file whole; raises `RunError` where the disk or folder refuses."""
    write_text(path, json_text(content))


def json_text(content: Mapping[str, Any]) -> str:
    """JSON as it stands in every file; NaN and infinity, for which it has no word, are null, and what a
    terminal would obey is an escape."""
    text = json.dumps(_finite(content), indent=2, ensure_ascii=False, allow_nan=False)
    return "\n".join(COMMANDS.sub(lambda found: json.dumps(found[0])[1:-1], line)
                     for line in text.split("\n")) + "\n"


def _finite(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {key: _finite(entry) for key, entry in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(entry) for entry in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def write_text(path: Path, text: str) -> None:
    """Write a text file whole; raises `RunError`."""
    write_bytes(path, text.encode("utf-8", errors="backslashreplace"))  # a file's name may be no UTF-8


def write_bytes(path: Path, content: bytes) -> None:
    """Write a file whole: beside its place, then renamed; its folder is made. Raises `RunError`."""
    partial = path.with_name(f".{path.name}.{secrets.token_hex(4)}.partial")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        partial.write_bytes(content)
        os.replace(partial, path)
    except OSError as error:
        raise _refused(path, error) from None
    finally:
        _remove(partial)


def check_writable(folder: Path) -> None:
    """Raise `RunError` where no file can be put into a folder, or one that is not there cannot be made: for
    work that takes long and would fail at its end. Leaves nothing."""
    try:
        there = next(place for place in (folder, *folder.absolute().parents) if place.exists())
        probe = there / f".{secrets.token_hex(4)}.partial"
        probe.write_bytes(b"")
        probe.unlink()
    except OSError as error:
        raise _refused(folder, error) from None


@contextmanager
def staged_folder(path: Path, may_replace: Callable[[Path], bool]) -> Iterator[Path]:
    """Give an empty folder beside `path`; on success it takes the place of `path` as a whole,
    on any failure or interrupt it vanishes, with what was made above it, and what was at `path` stays.

    `may_replace` says of an existing `path` whether it is one of ours. Raises `RunError` where it
    is not, or where the disk or folder refuses. No moment has nothing at `path`, where the system can
    exchange two folders.
    """
    stage = path.with_name(f".{path.name}.partial-{secrets.token_hex(4)}")
    new, old = stage / path.name, stage / "old" / path.name
    with _removed_if_empty(path.parent):  # an interrupt may come at any moment from here on
        try:
            if path.exists() and not may_replace(path):
                raise RunError(f"{path} exists and is not ours to replace; it is left alone. "
                               "Move it away or choose another --output.")
            new.mkdir(parents=True)
            yield new
            if path.exists() and exchange(new, path):
                return
            if path.exists():
                old.parent.mkdir()
                os.rename(path, old)
            os.rename(new, path)
        except OSError as error:
            raise _refused(path, error) from None
        finally:
            if os.path.exists(old) and not os.path.exists(path):  # between the two renames
                os.rename(old, path)
            shutil.rmtree(stage, ignore_errors=True)


@contextmanager
def _removed_if_empty(folder: Path) -> Iterator[None]:
    """Remove a folder that is made inside the block, and those above it that are, if nothing is in them."""
    made = [place for place in (folder, *folder.parents) if not os.path.exists(place)]
    try:
        yield
    finally:
        with suppress(OSError):  # the first that holds something, or was never made, ends it
            for place in made:
                place.rmdir()


def exchange(one: Path, other: Path) -> bool:
    """Let two folders change places in one moment, by Linux' renameat2(2); False where nothing happened,
    because the system or the file system cannot."""
    here, exchanged = -100, 2  # AT_FDCWD, RENAME_EXCHANGE
    try:
        rename = ctypes.CDLL(None).renameat2
        return not rename(here, os.fsencode(one), here, os.fsencode(other), exchanged)
    except (OSError, AttributeError, TypeError):  # no such call in this C library; no C library by that name
        return False


def _remove(path: Path) -> None:
    with suppress(OSError):
        path.unlink(missing_ok=True)


def _refused(path: Path, error: OSError) -> RunError:
    return RunError(f"{path}: cannot be written ({error.strerror or error}). "
                    "What was there before is untouched.")


def download_folder() -> Path:
    try:
        return cache_folder()
    except RuntimeError as error:
        raise RunError(f"no folder for downloads ({error}); expected a home folder or "
                       "$SATEXPORT_CACHE: set SATEXPORT_CACHE=DIR.") from None
