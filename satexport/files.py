"""Files: hashes, the user's cache folder, and atomic writes."""

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
from contextlib import AbstractContextManager, contextmanager, suppress
from pathlib import Path
from typing import Any, NoReturn

from satexport.errors import RunError, SatexportError, UsageError
from satexport.terminal import CONTROL_CHARACTERS

PACKAGE_FOLDER = Path(__file__).parent  # not a real folder if the package runs from a zip


def sha256_of(path: Path) -> str:
    """Return the SHA-256 of a file, 64 hex digits. Raises `OSError` if it cannot be read."""
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while block := file.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()


def read_at_most(path: Path, max_bytes: int) -> bytes:
    """Read a file of at most `max_bytes`, because an untrusted file could be arbitrarily long.

    Raises `OSError` if it is longer or cannot be read.
    """
    with path.open("rb") as file:
        content = file.read(max_bytes + 1)
    if len(content) > max_bytes:
        raise OSError(f"it is longer than {max_bytes / 1e6:g} MB, the limit")
    return content


def cache_folder() -> Path:
    """Return $SATEXPORT_CACHE, or the platform's cache folder for satexport, which may not exist yet.

    Raises `RuntimeError` if the user has no home folder.
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
    """Write a JSON file atomically. Raises `RunError` if it cannot be written."""
    write_text(path, json_text(content))


def json_text(content: Mapping[str, Any]) -> str:
    """The JSON format of all files. NaN and infinity, which JSON does not have, become null. Control
    characters are escaped."""
    text = json.dumps(_replace_nonfinite(content), indent=2, ensure_ascii=False, allow_nan=False)
    return "\n".join(CONTROL_CHARACTERS.sub(lambda match: json.dumps(match[0])[1:-1], line)
                     for line in text.split("\n")) + "\n"


def _replace_nonfinite(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {key: _replace_nonfinite(entry) for key, entry in value.items()}
    if isinstance(value, list | tuple):
        return [_replace_nonfinite(entry) for entry in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def write_text(path: Path, text: str) -> None:
    """Write a text file atomically. Raises `RunError` if it cannot be written."""
    write_bytes(path, text.encode("utf-8", errors="backslashreplace"))  # file names may not be valid UTF-8


def write_bytes(path: Path, content: bytes) -> None:
    """Write a file atomically: to a temporary name in the same folder, then rename. Creates the folder. What
    a symbolic link leads to is replaced, not the link. Raises `RunError` if it cannot be written."""
    path = Path(os.path.realpath(path)) if path.is_symlink() else path
    partial = path.with_name(f".{path.name}.{secrets.token_hex(4)}.partial")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        partial.write_bytes(content)
        os.replace(partial, path)
    except OSError as error:
        raise _write_error(path, error) from None
    finally:
        _remove(partial)


def check_writable(folder: Path) -> None:
    """Raise `RunError` if the folder cannot be created or written. Call it before long work whose results go
    there. Leaves no files."""
    try:
        existing = next(path for path in (folder, *folder.absolute().parents) if path.exists())
        probe = existing / f".{secrets.token_hex(4)}.partial"
        probe.write_bytes(b"")
        probe.unlink()
    except OSError as error:
        raise _write_error(folder, error) from None


@contextmanager
def staged_folder(path: Path, may_replace: Callable[[Path], bool]) -> Iterator[Path]:
    """Yield an empty folder in the same parent folder as `path`. On success it replaces `path` as a whole. On
    failure or interrupt it is deleted, with the parent folders created for it, and `path` stays unchanged.

    `may_replace` decides whether an existing `path` may be replaced. Raises `RunError` if not, or if it
    cannot be written. If the system can swap two folders atomically, `path` exists at every moment. Errors
    from inside the block name files by their final path.
    """
    stage = path.with_name(f".{path.name}.partial-{secrets.token_hex(4)}")
    new, old = stage / path.name, stage / "old" / path.name
    with remove_if_empty(path.parent):  # an interrupt can come at any moment from here on
        try:
            if path.exists() and not may_replace(path):
                raise RunError(f"{path} already exists and was not created by satexport; it was not changed. "
                               "Move it away or choose another --output.")
            new.mkdir(parents=True)
            try:
                yield new
            except SatexportError as error:
                texts = (text.replace(str(new), str(path)) for text in (error.message, *error.lines))
                raise type(error)(*texts) from None
            if path.exists() and swap_folders(new, path):
                return
            if path.exists():
                old.parent.mkdir()
                os.rename(path, old)
            os.rename(new, path)
        except OSError as error:
            raise _write_error(path, error) from None
        finally:
            if os.path.exists(old) and not os.path.exists(path):  # interrupted between the two renames
                os.rename(old, path)
            shutil.rmtree(stage, ignore_errors=True)


@contextmanager
def remove_if_empty(folder: Path) -> Iterator[None]:
    """If the folder and its parents do not exist yet, remove those that are empty after the block."""
    absent = [path for path in (folder, *folder.parents) if not os.path.exists(path)]
    try:
        yield
    finally:
        with suppress(OSError):  # stop at the first that is not empty or was never created
            for path in absent:
                path.rmdir()


@contextmanager
def only_command(folder: Path) -> Iterator[None]:
    """Create a folder, and let only one command at a time work in it. Raises `UsageError` if another one
    does, `RunError` if the folder cannot be created. On Windows nothing is locked."""
    def refuse() -> NoReturn:
        raise UsageError(f"{folder}: another command writes there. Wait until it has ended, or choose "
                         "another --output.")

    with remove_if_empty(folder):
        try:
            folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise _write_error(folder, error) from None
        with locked_folder(folder, refuse):
            yield


@contextmanager
def locked_folder(folder: Path, while_waiting: Callable[[], AbstractContextManager[Any]]) -> Iterator[None]:
    """Let only one process at a time work in a folder; another one waits in the context of `while_waiting`,
    which may raise an error instead. There is no lock on Windows."""
    if sys.platform == "win32":
        yield
        return
    import fcntl

    handle = os.open(folder, os.O_RDONLY)
    try:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            with while_waiting():
                fcntl.flock(handle, fcntl.LOCK_EX)
        except OSError:  # a file system without locks
            pass
        yield
    finally:
        with suppress(OSError):
            fcntl.flock(handle, fcntl.LOCK_UN)  # closing is not enough if a forked process has the handle too
        os.close(handle)


def swap_folders(one: Path, other: Path) -> bool:
    """Swap two folders atomically with Linux' renameat2(2). Returns False, and changes nothing, if the system
    or the file system does not support this."""
    at_cwd, exchange = -100, 2  # AT_FDCWD, RENAME_EXCHANGE
    try:
        rename = ctypes.CDLL(None).renameat2
        return not rename(at_cwd, os.fsencode(one), at_cwd, os.fsencode(other), exchange)
    except (OSError, AttributeError, TypeError):  # the C library has no renameat2, or cannot be loaded
        return False


def _remove(path: Path) -> None:
    with suppress(OSError):
        path.unlink(missing_ok=True)


def _write_error(path: Path, error: OSError) -> RunError:
    return RunError(f"{path}: cannot be written ({error.strerror or error}). "
                    "Existing files were not changed.")


def download_folder() -> Path:
    """The folder for downloads. Raises `RunError` if there is none."""
    try:
        return cache_folder()
    except RuntimeError as error:
        raise RunError(f"there is no folder for downloads ({error}); expected a home folder or "
                       "$SATEXPORT_CACHE: set SATEXPORT_CACHE=DIR.") from None
