"""Downloads: complete or not there, continued after an interruption."""

from __future__ import annotations

import hashlib
import io
import os
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from satexport import download
from satexport.download import fetch
from satexport.errors import RunError, UsageError
from tests.machine import PATIENCE, need_posix
from tests.site import BODY, Site

NOTHING = "http://127.0.0.1:9"  # the port is closed


@pytest.fixture
def place(tmp_path: Path) -> Path:
    return tmp_path / "new" / "file.bin"


def refusal(url: str, place: Path) -> str:
    """The message of the error that a download raises; it ends with the advice."""
    with pytest.raises(RunError) as caught:
        fetch(url, place, "Fly.")
    assert not place.exists()
    assert str(caught.value).endswith(" Fly.")
    return str(caught.value)


def part_of(place: Path) -> Path:
    return place.with_name(f"{place.name}.part")


@pytest.mark.parametrize("chunked", [False, True], ids=["length", "no length"])
def test_a_complete_download_leaves_no_other_files(site: Site, place: Path, chunked: bool,
                                                   capfd: pytest.CaptureFixture[str]) -> None:
    site.chunked = chunked
    fetch(site.url, place, "")
    assert place.read_bytes() == BODY
    assert os.listdir(place.parent) == ["file.bin"]
    assert len(site.asked) == 1
    assert site.asked[0]["User-Agent"].startswith("satexport/")
    assert capfd.readouterr() == ("", "")  # no terminal, no progress bar


def test_the_progress_bar_shows_the_downloaded_bytes(
        site: Site, place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    class Terminal(io.StringIO):
        def isatty(self) -> bool:
            return True

    terminal, site.cuts = Terminal(), [4096]
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setenv("COLUMNS", "100")
    monkeypatch.setattr("sys.stderr", terminal)
    fetch(site.url, place, "")
    assert "file.bin" in terminal.getvalue()
    assert "10.2/10.2 kB" in terminal.getvalue()


def test_an_existing_file_is_not_downloaded(site: Site, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("mine")
    fetch(site.url, tmp_path / "file", "")
    assert not site.asked
    assert (tmp_path / "file").read_text() == "mine"


def test_a_broken_transfer_is_continued_where_it_broke(site: Site, place: Path) -> None:
    site.cuts = [1000, 500]
    fetch(site.url, place, "")
    assert place.read_bytes() == BODY
    assert [asked.get("Range") for asked in site.asked] == [None, "bytes=1000-", "bytes=1500-"]
    assert site.asked[1]["If-Range"] == '"1"'


def test_a_transfer_that_breaks_without_a_length_is_noticed(site: Site, place: Path) -> None:
    site.chunked, site.cuts = True, [1000]
    fetch(site.url, place, "")
    assert place.read_bytes() == BODY
    assert len(site.asked) == 2


def test_without_range_support_the_whole_file_is_sent_again(site: Site, place: Path) -> None:
    site.ranges, site.cuts = False, [1000]
    fetch(site.url, place, "")
    assert place.read_bytes() == BODY
    assert len(site.asked) == 2


def test_after_a_wrong_range_the_whole_file_is_requested(site: Site, place: Path) -> None:
    site.shift, site.cuts = 100, [1000]
    fetch(site.url, place, "")
    assert place.read_bytes() == BODY
    assert [asked.get("Range") for asked in site.asked] == [None, "bytes=1000-", None]


@pytest.mark.parametrize("headers", [{}, {"ETag": 'W/"weak"'}], ids=str)
def test_a_file_without_a_version_is_not_continued(site: Site, place: Path,
                                                   headers: dict[str, str]) -> None:
    site.headers, site.if_range, site.cuts = headers, False, [1000]
    fetch(site.url, place, "")
    assert place.read_bytes() == BODY
    assert not any("Range" in asked for asked in site.asked)


def test_last_modified_identifies_a_file_without_an_etag(site: Site, place: Path) -> None:
    site.headers = {"Last-Modified": "Thu, 23 Feb 2023 14:47:38 GMT"}
    site.if_range, site.cuts = False, [1000]
    fetch(site.url, place, "")
    assert place.read_bytes() == BODY
    assert site.asked[1]["If-Range"] == site.headers["Last-Modified"]


@pytest.mark.parametrize("heeds", [True, False], ids=["heeds If-Range", "ignores If-Range"])
@pytest.mark.parametrize("length", [2 * len(BODY), 500], ids=["longer", "shorter"])
def test_a_file_that_changes_during_the_download_is_downloaded_in_its_new_version(
        site: Site, place: Path, heeds: bool, length: int) -> None:
    site.if_range, site.cuts = heeds, [1000] * 4
    site.ranges = False
    refusal(site.url, place)
    site.ranges = True
    site.body, site.headers["ETag"] = os.urandom(length), '"2"'
    fetch(site.url, place, "")
    assert place.read_bytes() == site.body


def test_a_partial_file_as_long_as_the_file_is_downloaded_again(site: Site, place: Path) -> None:
    site.cuts = [1000] * 4
    site.body = BODY[:4001]
    refusal(site.url, place)
    site.body = BODY[:4000]  # although the server announces the same version
    fetch(site.url, place, "")
    assert place.read_bytes() == BODY[:4000]


def test_a_transfer_that_always_breaks_fails_and_is_continued_by_the_next_call(
        site: Site, place: Path) -> None:
    site.cuts = [1000, 0, 0, 0]
    message = refusal(site.url, place)
    assert "ended after 1000 of 10240 bytes. Tried 4 times." in message
    assert f"kept in {part_of(place)}" in message
    assert len(site.asked) == 4
    fetch(site.url, place, "")
    assert site.asked[-1]["Range"] == "bytes=1000-"
    assert place.read_bytes() == BODY
    assert os.listdir(place.parent) == ["file.bin"]


def test_an_interrupted_download_is_continued_by_the_next_call(site: Site, place: Path,
                                                               monkeypatch: pytest.MonkeyPatch) -> None:
    @contextmanager
    def interrupted(*_: object, **__: object) -> Iterator[object]:
        def advance(parts: int = 1) -> None:
            raise KeyboardInterrupt
        yield advance

    with monkeypatch.context() as patch:
        patch.setattr(download, "progress", interrupted)
        patch.setattr(download, "BLOCK", 1000)
        with pytest.raises(KeyboardInterrupt):
            fetch(site.url, place, "")
    assert not place.exists()
    assert part_of(place).read_bytes() == BODY[:1000]
    fetch(site.url, place, "")
    assert site.asked[-1]["Range"] == "bytes=1000-"
    assert place.read_bytes() == BODY


def test_an_md5_from_the_server_is_verified(site: Site, place: Path) -> None:
    digest = hashlib.md5(BODY).hexdigest()
    site.headers["ETag"] = f'"md5:{digest}"'  # as Zenodo does
    fetch(site.url, place, "")
    place.unlink()
    site.body = BODY[::-1]
    assert f"does not have the MD5 {digest}" in refusal(site.url, place)
    assert not part_of(place).exists()


@pytest.mark.parametrize(("status", "tries"), [(404, 1), (403, 1), (429, 4), (500, 4), (503, 4)])
def test_only_temporary_http_errors_are_retried(site: Site, place: Path, status: int,
                                                tries: int) -> None:
    site.status = status
    assert f"file.bin cannot be downloaded: the server answered {status} " in refusal(site.url, place)
    assert len(site.asked) == tries
    assert not os.listdir(place.parent)


@pytest.mark.parametrize("url", [NOTHING, "http://no-such-host.invalid"])
def test_a_missing_network_is_reported_in_plain_words(site: Site, place: Path, url: str,
                                                      monkeypatch: pytest.MonkeyPatch) -> None:
    def unknown(*_: object, **__: object) -> None:
        raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")

    if "invalid" in url:  # some networks resolve every name, others answer after a minute
        monkeypatch.setattr(socket, "getaddrinfo", unknown)
    message = refusal(url, place)
    assert f"no answer from {url[7:]} (" in message
    assert "check the network" in message


@pytest.mark.parametrize("url", ["file:///etc/passwd", "zenodo.org", "http://[", "http://a:b/", "http://a b"])
def test_an_invalid_url_is_a_usage_error(site: Site, place: Path, url: str) -> None:
    with pytest.raises(UsageError, match="is not a valid download URL"):
        fetch(url, place, "")


def test_an_html_page_instead_of_the_file_is_refused(site: Site, place: Path) -> None:
    site.headers["Content-Type"] = "text/html; charset=utf-8"
    assert "the server sent an HTML page" in refusal(site.url, place)
    assert not os.listdir(place.parent)


def test_a_folder_that_cannot_be_created_is_named(site: Site, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    place = tmp_path / "file" / "new" / "file.bin"
    assert f"{place}: cannot be written (Not a directory)" in refusal(site.url, place)


def test_a_full_disk_is_not_reported_as_a_broken_transfer(site: Site, place: Path) -> None:
    resource = need_posix("resource")
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1000, limits[1]))
    try:
        message = refusal(site.url, place)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert f"{place}: cannot be written (File too large)" in message
    assert "free some space, or set SATEXPORT_CACHE" in message
    assert len(site.asked) == 1
    fetch(site.url, place, "")
    assert place.read_bytes() == BODY


def test_two_downloads_to_a_folder_run_one_after_the_other(site: Site, place: Path) -> None:
    fcntl = need_posix("fcntl")
    place.parent.mkdir()
    other = os.open(place.parent, os.O_RDONLY)
    fcntl.flock(other, fcntl.LOCK_SH)
    thread = threading.Thread(target=fetch, args=(site.url, place, ""))
    thread.start()
    thread.join(0.2)
    assert thread.is_alive()
    place.write_bytes(b"brought by the other one")
    os.close(other)
    thread.join(PATIENCE)
    assert not thread.is_alive()
    assert not site.asked
    assert place.read_bytes() == b"brought by the other one"
