"""Downloads: a file comes whole or not at all.

What came before a transfer broke waits in `NAME.part` beside its place and is continued, if the
server still has the same file. Standard library only.
"""

from __future__ import annotations

import hashlib
import os
import re
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from email.message import Message
from http.client import HTTPException, HTTPResponse, InvalidURL
from pathlib import Path
from typing import Final
from urllib.error import HTTPError
from urllib.request import Request, urlopen

from satexport.errors import RunError, UsageError
from satexport.progress import progress
from satexport.version import __version__

TIMEOUT: Final = 30.0             # s, to connect and for each block
PAUSES: Final = (0.5, 1.0, 2.0)   # s, before the second try and so on
BUSY: Final = (408, 425, 429)     # HTTP statuses below 500 that may pass
STALE: Final = 416                # the part is as long as the file, or longer
BLOCK: Final = 1 << 16            # bytes


class _FetchError(Exception):
    """A download that came to nothing: found, expected, what to do."""


class _BrokenError(_FetchError):
    """One that may go better the next time; stale: but not with the part that is there."""

    def __init__(self, message: str, stale: bool = False) -> None:
        super().__init__(message)
        self.stale = stale


def fetch(url: str, path: Path, advice: str) -> None:
    """Download a file to `path`, unless it is there: whole, or not at all.

    A broken transfer is continued after a short pause, a few times; one that was given up or
    interrupted by the next call. Raises `RunError`, which ends with `advice`.
    """
    part = path.with_name(f"{path.name}.part")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with _alone_in(path.parent):
            if not path.exists():
                _insist(url, part)
                os.replace(part, path)
                _version_file(part).unlink(missing_ok=True)
    except _FetchError as failure:
        raise RunError(f"{path.name} cannot be fetched: {failure} {advice}") from None
    except OSError as error:
        raise RunError(f"{path}: cannot be written ({error.strerror or error}); expected a folder with room "
                       f"that you may write to: make room, or set SATEXPORT_CACHE=DIR. {advice}") from None


@contextmanager
def _alone_in(folder: Path) -> Iterator[None]:
    """Let no two processes write the same part: the second waits. Windows has no such lock."""
    if sys.platform == "win32":
        yield
        return
    import fcntl

    handle = os.open(folder, os.O_RDONLY)
    try:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            with progress("waiting for another download", None):
                fcntl.flock(handle, fcntl.LOCK_EX)
        except OSError:  # a file system without locks
            pass
        yield
    finally:
        with suppress(OSError):
            fcntl.flock(handle, fcntl.LOCK_UN)  # by itself: a forked process may have the handle, too
        os.close(handle)


def _insist(url: str, part: Path) -> None:
    """Try until the part is the whole file, a few times."""
    for pause in (*PAUSES, None):
        try:
            return _transfer(url, part)
        except _BrokenError as broken:
            if broken.stale:
                part.unlink(missing_ok=True)
            if pause is None:
                kept = f" What came is kept in {part}: run again to go on." if _size(part) else ""
                raise _FetchError(f"{broken} Tried {len(PAUSES) + 1} times.{kept}") from None
            time.sleep(pause)
    return None


def _transfer(url: str, part: Path) -> None:
    """Try once to make the part the whole file."""
    done, version = _size(part), _version_of(part)
    with _ask(url, done, version) as answer:
        start, total = _extent(answer, done, version)
        with part.open("ab") as file:
            if start == 0:
                file.truncate(0)  # before the new version is noted
                version = _version(answer.headers)
                _version_file(part).write_text(version, encoding="latin-1")
            with progress(part.stem, total, start, unit="bytes") as advance:
                for block in _blocks(answer):
                    file.write(block)
                    advance(len(block))
    if total is not None and _size(part) != total:
        raise _BrokenError(f"the transfer ended after {_size(part)} of {total} bytes.")
    md5 = re.fullmatch('"md5:([0-9a-f]{32})"', version)  # Zenodo's
    if md5 and _md5_of(part) != md5[1]:
        raise _BrokenError(f"what came does not have the MD5 {md5[1]} that the server has.", stale=True)


def _ask(url: str, done: int, version: str) -> HTTPResponse:
    """Open a URL, from byte `done` on if the file is still this version."""
    headers = {"User-Agent": f"satexport/{__version__}"}
    if done and version:
        headers |= {"Range": f"bytes={done}-", "If-Range": version}
    try:
        if not url.startswith(("https://", "http://")):
            raise ValueError("it starts with neither https:// nor http://")
        answer: HTTPResponse = urlopen(Request(url, headers=headers), timeout=TIMEOUT)  # noqa: S310
        return answer
    except HTTPError as error:
        error.close()
        found = f"the server says {error.code} {error.reason}, expected the file."
        if error.code >= 500 or error.code in (*BUSY, STALE):
            raise _BrokenError(f"{found} Try again later.", stale=error.code == STALE) from None
        raise _FetchError(f"{found} It may have moved.") from None
    except (ValueError, InvalidURL) as error:
        raise UsageError(f"{url}: is no URL to download from ({error}); expected https://...: see "
                         "$SATEXPORT_ZENODO and $SATEXPORT_ESC50_URL.") from None
    except (OSError, HTTPException) as error:
        raise _BrokenError(f"no answer from {url.split('/')[2]} ({_reason(error)}): check the network and, "
                           "if you need a proxy, $HTTPS_PROXY.") from None


def _extent(answer: HTTPResponse, done: int, version: str) -> tuple[int, int | None]:
    """At which byte the answer starts, and how long the whole file is, where the server says it."""
    if answer.headers.get_content_type() == "text/html":
        raise _FetchError("an HTML page came, expected the file: a proxy or a login stands between.")
    if answer.status != 206:
        return 0, answer.length
    found = re.fullmatch(r"bytes (\d+)-\d+/(\d+)", answer.headers.get("Content-Range", ""))
    if not found or int(found[1]) != done or _version(answer.headers) not in ("", version):
        raise _BrokenError("the rest of another file came.", stale=True)
    return done, int(found[2])


def _blocks(answer: HTTPResponse) -> Iterator[bytes]:
    try:
        while block := answer.read(BLOCK):
            yield block
    except (OSError, HTTPException) as error:
        raise _BrokenError(f"the transfer broke off ({_reason(error)}).") from None


def _version(headers: Message) -> str:
    """What tells a file from a later one at the same place; "" where the server says nothing."""
    etag: str = headers.get("ETag", "")
    return etag if etag.startswith('"') else headers.get("Last-Modified", "")  # W/"..." is too weak


def _version_file(part: Path) -> Path:
    return part.with_name(f"{part.name}.version")


def _version_of(part: Path) -> str:
    try:
        return _version_file(part).read_text(encoding="latin-1").partition("\n")[0].strip()
    except FileNotFoundError:
        return ""


def _size(path: Path) -> int:
    return path.stat().st_size if path.exists() else 0


def _reason(error: Exception) -> str:
    reason = getattr(error, "reason", error)  # of a URLError
    return getattr(reason, "strerror", None) or str(reason) or type(reason).__name__


def _md5_of(path: Path) -> str:
    digest = hashlib.md5(usedforsecurity=False)
    with path.open("rb") as file:
        while block := file.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()
