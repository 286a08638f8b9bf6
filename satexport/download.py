"""Downloads: a file appears at its path only when complete.

An interrupted transfer stays in `NAME.part` in the same folder. The next download continues it, if the server
still has the same file. Standard library only.
"""

from __future__ import annotations

import hashlib
import os
import re
import time
from collections.abc import Iterator
from email.message import Message
from http.client import HTTPException, HTTPResponse, InvalidURL
from pathlib import Path
from typing import Final
from urllib.error import HTTPError
from urllib.request import Request, urlopen

from satexport.errors import RunError, UsageError
from satexport.files import locked_folder
from satexport.progress import progress
from satexport.version import __version__

TIMEOUT: Final = 30.0             # s, to connect and for each block
PAUSES: Final = (0.5, 1.0, 2.0)   # s, before the second, third and fourth try
TEMPORARY: Final = (408, 425, 429)  # HTTP statuses below 500 that are worth another try
STALE: Final = 416                # the partial file is at least as long as the whole file
BLOCK: Final = 1 << 16            # bytes


class _FetchError(Exception):
    """A failed download; the message says what was found, what was expected and what to do."""


class _BrokenError(_FetchError):
    """A failure that may not happen again; if it is `stale`, only without the existing partial file."""

    def __init__(self, message: str, stale: bool = False) -> None:
        super().__init__(message)
        self.stale = stale


def fetch(url: str, path: Path, advice: str) -> None:
    """Download a file to `path`, completely or not at all, unless it already exists.

    If the transfer breaks, it is continued a few times, each after a short pause. If it fails or is
    interrupted, the next call continues it. Raises `RunError`, whose message ends with `advice`.
    """
    part = path.with_name(f"{path.name}.part")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with locked_folder(path.parent, lambda: progress("waiting for another download", None)):
            if not path.exists():
                _transfer_with_retries(url, part)
                os.replace(part, path)
                _version_file(part).unlink(missing_ok=True)
    except _FetchError as failure:
        raise RunError(f"{path.name} cannot be downloaded: {failure} {advice}") from None
    except OSError as error:
        raise RunError(f"{path}: cannot be written ({error.strerror or error}); expected a writable folder "
                       f"with enough space: free some space, or set SATEXPORT_CACHE=DIR. {advice}") from None


def _transfer_with_retries(url: str, part: Path) -> None:
    """Try a few times to complete the partial file."""
    for pause in (*PAUSES, None):
        try:
            return _transfer(url, part)
        except _BrokenError as broken:
            if broken.stale:
                part.unlink(missing_ok=True)
            if pause is None:
                kept = f" The partial file is kept in {part}: run again to continue." if _size(part) else ""
                raise _FetchError(f"{broken} Tried {len(PAUSES) + 1} times.{kept}") from None
            time.sleep(pause)
    return None


def _transfer(url: str, part: Path) -> None:
    """Try once to complete the partial file."""
    done, version = _size(part), _read_version(part)
    with _request(url, done, version) as response:
        start, total = _read_extent(response, done, version)
        with part.open("ab") as file:
            if start == 0:
                file.truncate(0)  # before the new version is recorded
                version = _get_version(response.headers)
                _version_file(part).write_text(version, encoding="latin-1")
            with progress(part.stem, total, start, unit="bytes") as advance:
                for block in _read_blocks(response):
                    file.write(block)
                    advance(len(block))
    if total is not None and _size(part) != total:
        raise _BrokenError(f"the transfer ended after {_size(part)} of {total} bytes.")
    md5 = re.fullmatch('"md5:([0-9a-f]{32})"', version)  # the format of Zenodo's ETags
    if md5 and _md5_of(part) != md5[1]:
        raise _BrokenError(f"the downloaded file does not have the MD5 {md5[1]} that the server announced.",
                           stale=True)


def _request(url: str, done: int, version: str) -> HTTPResponse:
    """Open a URL, from byte `done` on if the server still has this version of the file."""
    headers = {"User-Agent": f"satexport/{__version__}"}
    if done and version:
        headers |= {"Range": f"bytes={done}-", "If-Range": version}
    try:
        if not url.startswith(("https://", "http://")):
            raise ValueError("it starts with neither https:// nor http://")
        response: HTTPResponse = urlopen(Request(url, headers=headers), timeout=TIMEOUT)  # noqa: S310
        return response
    except HTTPError as error:
        error.close()
        found = f"the server answered {error.code} {error.reason}, expected the file."
        if error.code >= 500 or error.code in (*TEMPORARY, STALE):
            raise _BrokenError(f"{found} Try again later.", stale=error.code == STALE) from None
        raise _FetchError(f"{found} It may have moved.") from None
    except (ValueError, InvalidURL) as error:
        raise UsageError(f"{url}: is not a valid download URL ({error}); expected https://...: check "
                         "$SATEXPORT_MIRROR and $SATEXPORT_ESC50_URL.") from None
    except (OSError, HTTPException) as error:
        raise _BrokenError(f"no answer from {url.split('/')[2]} ({_reason(error)}): check the network and, "
                           "if you need a proxy, $HTTPS_PROXY.") from None


def _read_extent(response: HTTPResponse, done: int, version: str) -> tuple[int, int | None]:
    """The first byte of the response within the file, and the size of the file, or None if unknown."""
    if response.headers.get_content_type() == "text/html":
        raise _FetchError("the server sent an HTML page, expected the file: a proxy or a login page may have "
                          "answered instead.")
    if response.status != 206:
        return 0, response.length
    content_range = re.fullmatch(r"bytes (\d+)-\d+/(\d+)", response.headers.get("Content-Range", ""))
    if (not content_range or int(content_range[1]) != done
            or _get_version(response.headers) not in ("", version)):
        raise _BrokenError("the server sent the rest of a different file.", stale=True)
    return done, int(content_range[2])


def _read_blocks(response: HTTPResponse) -> Iterator[bytes]:
    try:
        while block := response.read(BLOCK):
            yield block
    except (OSError, HTTPException) as error:
        raise _BrokenError(f"the connection was interrupted ({_reason(error)}).") from None


def _get_version(headers: Message) -> str:
    """An identifier of this version of the file; "" if the server sends none."""
    etag: str = headers.get("ETag", "")
    return etag if etag.startswith('"') else headers.get("Last-Modified", "")  # not a weak ETag (W/"...")


def _version_file(part: Path) -> Path:
    return part.with_name(f"{part.name}.version")


def _read_version(part: Path) -> str:
    try:
        return _version_file(part).read_text(encoding="latin-1").partition("\n")[0].strip()
    except FileNotFoundError:
        return ""


def _size(path: Path) -> int:
    return path.stat().st_size if path.exists() else 0


def _reason(error: Exception) -> str:
    reason = getattr(error, "reason", error)  # a URLError has one
    return getattr(reason, "strerror", None) or str(reason) or type(reason).__name__


def _md5_of(path: Path) -> str:
    digest = hashlib.md5(usedforsecurity=False)
    with path.open("rb") as file:
        while block := file.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()
