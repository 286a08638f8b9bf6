"""Downloads from a server on this machine whose answers each test chooses; no real network."""

from __future__ import annotations

import hashlib
import io
import os
import re
import socket
import stat
import threading
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from satexport import download, files
from satexport.audio.esc50 import fetch_esc50
from satexport.download import fetch
from satexport.errors import CheckpointError, RunError, UsageError
from satexport.files import sha256_of
from satexport.models.checkpoint import load_checkpoint
from satexport.models.published import fetch_published
from satexport.models.sat.published import PUBLISHED, ZENODO
from satexport.models.sat.variants import VARIANTS, find_model
from satexport.models.weightfile import find_by_sha256
from tests.commands.test_cli import call
from tests.machine import PATIENCE, need_posix
from tests.models.test_checkpoint import hollow, save_torch

SAT_T = find_model("sat-t")[2]
NAME = "SAT_T_stream2s_mAP_43_34.pt"
BODY = bytes(range(256)) * 40  # 10 240 bytes
NOTHING = "http://127.0.0.1:9"  # the port is closed


class Site(ThreadingHTTPServer):
    """What the server sends next, and what it was asked."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Answer)
        self.body = BODY
        self.headers = {"ETag": '"1"', "Content-Type": "application/octet-stream"}
        self.status = 200
        self.ranges = True      # answers Range
        self.if_range = True    # heeds If-Range
        self.shift = 0          # continues so many bytes from where it was asked to
        self.chunked = False    # gives no length beforehand
        self.cuts: list[int] = []  # bytes after which the next answers break off
        self.asked: list[dict[str, str]] = []

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}"


class Answer(BaseHTTPRequestHandler):
    server: Site
    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        site = self.server
        site.asked.append({"path": self.path, **self.headers})
        self.close_connection = True
        if site.status != 200:
            return self.send_error(site.status)
        start, total = 0, len(site.body)
        asked = re.fullmatch(r"bytes=(\d+)-", self.headers.get("Range", ""))
        same = self.headers.get("If-Range") == site.headers.get("ETag") or not site.if_range
        if asked and site.ranges and same:
            start = int(asked[1]) + site.shift
            if start >= total:
                return self.send_error(416)
        self.send_response(206 if start else 200)
        for key, value in site.headers.items():
            self.send_header(key, value)
        if start:
            self.send_header("Content-Range", f"bytes {start}-{total - 1}/{total}")
        sent = site.body[start:][:site.cuts.pop(0) if site.cuts else total]
        if site.chunked:
            self.send_header("Transfer-Encoding", "chunked")
            end = b"0\r\n\r\n" if len(sent) == total - start else b""
            sent = b"%x\r\n%s\r\n%s" % (len(sent), sent, end)
        else:
            self.send_header("Content-Length", str(total - start))
        self.end_headers()
        self.wfile.write(sent)
        return None

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def site(monkeypatch: pytest.MonkeyPatch) -> Iterator[Site]:
    """The server, reached without a proxy; the user's cache folder is nobody's."""
    monkeypatch.setattr(download, "PAUSES", (0.0, 0.0, 0.0))
    monkeypatch.setenv("no_proxy", "*")
    with Site() as site:
        thread = threading.Thread(target=site.serve_forever, args=(0.01,))
        thread.start()
        yield site
        site.shutdown()
        thread.join()


@pytest.fixture
def place(tmp_path: Path) -> Path:
    return tmp_path / "new" / "file.bin"


def refusal(url: str, place: Path) -> str:
    """The words of the error that a download ends with; its last are the advice."""
    with pytest.raises(RunError) as caught:
        fetch(url, place, "Fly.")
    assert not place.exists()
    assert str(caught.value).endswith(" Fly.")
    return str(caught.value)


def part_of(place: Path) -> Path:
    return place.with_name(f"{place.name}.part")


# One file.

@pytest.mark.parametrize("chunked", [False, True], ids=["length", "no length"])
def test_a_file_comes_whole_and_leaves_nothing_beside_it(site: Site, place: Path, chunked: bool,
                                                         capfd: pytest.CaptureFixture[str]) -> None:
    site.chunked = chunked
    fetch(site.url, place, "")
    assert place.read_bytes() == BODY
    assert os.listdir(place.parent) == ["file.bin"]
    assert len(site.asked) == 1
    assert site.asked[0]["User-Agent"].startswith("satexport/")
    assert capfd.readouterr() == ("", "")  # no terminal, no progress bar


def test_a_terminal_sees_how_many_bytes_came(site: Site, place: Path, monkeypatch: pytest.MonkeyPatch
                                             ) -> None:
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


def test_a_file_that_is_there_is_not_asked_for(site: Site, tmp_path: Path) -> None:
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


def test_a_server_that_cannot_continue_sends_it_all_again(site: Site, place: Path) -> None:
    site.ranges, site.cuts = False, [1000]
    fetch(site.url, place, "")
    assert place.read_bytes() == BODY
    assert len(site.asked) == 2


def test_a_server_that_continues_elsewhere_is_asked_for_all_of_it(site: Site, place: Path) -> None:
    site.shift, site.cuts = 100, [1000]
    fetch(site.url, place, "")
    assert place.read_bytes() == BODY
    assert [asked.get("Range") for asked in site.asked] == [None, "bytes=1000-", None]


@pytest.mark.parametrize("headers", [{}, {"ETag": 'W/"weak"'}], ids=str)
def test_a_file_that_nothing_identifies_is_not_continued(site: Site, place: Path,
                                                         headers: dict[str, str]) -> None:
    site.headers, site.if_range, site.cuts = headers, False, [1000]
    fetch(site.url, place, "")
    assert place.read_bytes() == BODY
    assert not any("Range" in asked for asked in site.asked)


def test_the_date_identifies_a_file_where_there_is_no_etag(site: Site, place: Path) -> None:
    site.headers = {"Last-Modified": "Thu, 23 Feb 2023 14:47:38 GMT"}
    site.if_range, site.cuts = False, [1000]
    fetch(site.url, place, "")
    assert place.read_bytes() == BODY
    assert site.asked[1]["If-Range"] == site.headers["Last-Modified"]


@pytest.mark.parametrize("heeds", [True, False], ids=["heeds If-Range", "ignores If-Range"])
@pytest.mark.parametrize("length", [2 * len(BODY), 500], ids=["longer", "shorter"])
def test_a_file_that_changes_between_its_parts_comes_as_the_new_one(site: Site, place: Path, heeds: bool,
                                                                    length: int) -> None:
    site.if_range, site.cuts = heeds, [1000] * 4
    site.ranges = False
    refusal(site.url, place)
    site.ranges = True
    site.body, site.headers["ETag"] = os.urandom(length), '"2"'
    fetch(site.url, place, "")
    assert place.read_bytes() == site.body


def test_a_part_as_long_as_the_file_starts_again(site: Site, place: Path) -> None:
    site.cuts = [1000] * 4
    site.body = BODY[:4001]
    refusal(site.url, place)
    site.body = BODY[:4000]  # the same version, though: a liar
    fetch(site.url, place, "")
    assert place.read_bytes() == BODY[:4000]


def test_a_transfer_that_always_breaks_is_given_up_and_continued_by_the_next_call(site: Site, place: Path
                                                                                  ) -> None:
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


def test_an_md5_that_the_server_has_is_checked(site: Site, place: Path) -> None:
    digest = hashlib.md5(BODY).hexdigest()
    site.headers["ETag"] = f'"md5:{digest}"'  # as Zenodo does
    fetch(site.url, place, "")
    place.unlink()
    site.body = BODY[::-1]
    assert f"does not have the MD5 {digest}" in refusal(site.url, place)
    assert not part_of(place).exists()


@pytest.mark.parametrize(("status", "tries"), [(404, 1), (403, 1), (429, 4), (500, 4), (503, 4)])
def test_a_refusing_server_is_asked_again_only_where_that_may_help(site: Site, place: Path, status: int,
                                                                   tries: int) -> None:
    site.status = status
    assert f"file.bin cannot be fetched: the server says {status} " in refusal(site.url, place)
    assert len(site.asked) == tries
    assert not os.listdir(place.parent)


@pytest.mark.parametrize("url", [NOTHING, "http://no-such-host.invalid"])
def test_no_network_is_said_in_plain_words(site: Site, place: Path, url: str,
                                           monkeypatch: pytest.MonkeyPatch) -> None:
    def unknown(*_: object, **__: object) -> None:
        raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")

    if "invalid" in url:  # some networks know every name, and others answer after a minute
        monkeypatch.setattr(socket, "getaddrinfo", unknown)
    message = refusal(url, place)
    assert f"no answer from {url[7:]} (" in message
    assert "check the network" in message


@pytest.mark.parametrize("url", ["file:///etc/passwd", "zenodo.org", "http://[", "http://a:b/", "http://a b"])
def test_what_is_no_web_address_is_wrong_use(site: Site, place: Path, url: str) -> None:
    with pytest.raises(UsageError, match="no URL to download from"):
        fetch(url, place, "")


def test_a_page_instead_of_the_file_is_refused(site: Site, place: Path) -> None:
    site.headers["Content-Type"] = "text/html; charset=utf-8"
    assert "an HTML page came" in refusal(site.url, place)
    assert not os.listdir(place.parent)


def test_a_folder_that_cannot_be_made_is_named(site: Site, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    place = tmp_path / "file" / "new" / "file.bin"
    assert f"{place}: cannot be written (Not a directory)" in refusal(site.url, place)


def test_a_full_disk_is_no_broken_transfer(site: Site, place: Path) -> None:
    resource = need_posix("resource")
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1000, limits[1]))
    try:
        message = refusal(site.url, place)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert f"{place}: cannot be written (File too large)" in message
    assert "make room, or set SATEXPORT_CACHE" in message
    assert len(site.asked) == 1
    fetch(site.url, place, "")
    assert place.read_bytes() == BODY


def test_two_downloads_into_a_folder_come_one_after_the_other(site: Site, place: Path) -> None:
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


# The published checkpoints.

@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    """A small file with the shapes of sat-t at 2 s."""
    return save_torch(tmp_path_factory.mktemp("weights") / "w.pt", hollow(SAT_T)).read_bytes()


@pytest.fixture
def cached(site: Site, weights: bytes, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where the published sat-t at 2 s comes to lie; the server has it."""
    site.body = weights
    monkeypatch.setenv("SATEXPORT_ZENODO", site.url)
    monkeypatch.setenv("SATEXPORT_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache" / "published" / NAME


def checkpoint_refusal() -> str:
    with pytest.raises(CheckpointError) as caught:
        load_checkpoint("published", SAT_T)
    return str(caught.value)


def test_every_variant_has_a_published_file_that_its_name_belongs_to() -> None:
    assert ZENODO == "https://zenodo.org/record/7964975/files"
    assert len({published.file for published in PUBLISHED.values()}) == 9
    assert PUBLISHED.keys() == {variant.name for variant in VARIANTS.values()}
    for variant in VARIANTS.values():
        size = {"t": ("SAT_T", "tiny"), "s": ("SAT_S", "small"), "b": ("SAT_B", "base")}[variant.model[-1]]
        start = (f"{size[0]}_stream{variant.delay}s_mAP_" if variant.has_cache
                 else f"audiotransformer_{size[1]}_mAP_")
        assert PUBLISHED[variant.name].file.startswith(start)
        assert PUBLISHED[variant.name].url == f"{ZENODO}/{PUBLISHED[variant.name].file}?download=1"


def test_a_published_checkpoint_is_fetched_once_and_its_hash_noted(site: Site, cached: Path) -> None:
    loaded = load_checkpoint("published", SAT_T)
    assert site.asked[0]["path"] == f"/{NAME}?download=1"
    assert (loaded.name, loaded.source, loaded.sha256) == (NAME, "file", sha256_of(cached))
    assert cached.with_name(f"{NAME}.sha256").read_text() == f"{loaded.sha256}  {NAME}\n"
    assert load_checkpoint("published", SAT_T).sha256 == loaded.sha256
    assert len(site.asked) == 1
    assert find_by_sha256(loaded.sha256) == cached  # as parity looks for it
    assert sorted(os.listdir(cached.parent)) == [NAME, f"{NAME}.sha256"]


@pytest.mark.parametrize("delay", [1, 2, 10])
def test_a_vit_is_one_file_at_every_delay(cached: Path, delay: int) -> None:
    with fetch_published(PUBLISHED[f"vit-t-{delay}s"]) as path:
        assert path == cached.with_name("audiotransformer_tiny_mAP_44_15.pt")


def test_a_file_put_there_by_hand_needs_no_network(site: Site, cached: Path, weights: bytes) -> None:
    cached.parent.mkdir(parents=True)
    cached.write_bytes(weights)
    loaded = load_checkpoint("published", SAT_T)
    assert not site.asked
    assert cached.with_name(f"{NAME}.sha256").read_text().startswith(loaded.sha256)


def test_a_file_that_changed_since_its_first_use_is_refused(site: Site, cached: Path, weights: bytes) -> None:
    first = load_checkpoint("published", SAT_T).sha256
    save_torch(cached, {"model": hollow(SAT_T), "epoch": 2})  # a valid one, but another
    message = checkpoint_refusal()
    assert f"has SHA-256 {sha256_of(cached)[:12]}..., expected {first}" in message
    assert f"remove {NAME}.sha256" in message
    assert cached.is_file()
    cached.unlink()
    assert load_checkpoint("published", SAT_T).sha256 == first


def test_a_file_that_the_server_changed_since_the_first_use_is_refused(site: Site, cached: Path) -> None:
    load_checkpoint("published", SAT_T)
    cached.unlink()
    site.body = save_torch(cached.parent / "new.pt", {"model": hollow(SAT_T)}).read_bytes()
    assert "as at its first use" in checkpoint_refusal()


def test_a_damaged_note_is_said_and_not_believed(cached: Path) -> None:
    load_checkpoint("published", SAT_T)
    cached.with_name(f"{NAME}.sha256").write_bytes(b"\xff" * 1000)
    assert f"remove {NAME}.sha256" in checkpoint_refusal()


@pytest.mark.parametrize("body", [b"<!DOCTYPE html><title>Log in</title>", b"", b"PK\x03\x04 and no more"],
                         ids=["page", "empty", "truncated"])
def test_what_is_no_checkpoint_is_neither_noted_nor_kept(site: Site, cached: Path, weights: bytes,
                                                         body: bytes) -> None:
    site.body = body
    message = checkpoint_refusal()
    assert "came so from the server and was removed" in message
    assert site.url in message
    assert not os.listdir(cached.parent)
    site.body = weights
    load_checkpoint("published", SAT_T)


def test_a_file_of_another_variant_put_there_by_hand_is_not_noted_but_kept(site: Site, cached: Path) -> None:
    cached.parent.mkdir(parents=True)
    save_torch(cached, hollow(find_model("sat-s")[2]))
    message = checkpoint_refusal()
    assert "looks like sat-s" in message
    assert "Remove it to fetch it again" in message
    assert os.listdir(cached.parent) == [NAME]
    assert not site.asked


def test_a_missing_file_says_what_to_fetch_by_hand_and_what_needs_no_file(site: Site, cached: Path) -> None:
    site.status = 404
    result = call("onnx", "--model", "sat-t")  # --checkpoint published is the default
    assert result.code == 5
    assert f"fetch {site.url}/{NAME}?download=1 by hand and put it at {cached}" in result.err
    assert "demo and random" in result.err
    assert result.out == ""


def test_without_a_cache_folder_the_error_says_how_to_choose_one(
        cached: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").touch()
    monkeypatch.setenv("SATEXPORT_CACHE", str(tmp_path / "file"))
    with pytest.raises(RunError, match=r"cannot be written .*SATEXPORT_CACHE=DIR"):
        load_checkpoint("published", SAT_T)

    def homeless() -> Path:
        raise RuntimeError("Could not determine home directory.")

    monkeypatch.setattr(files, "cache_folder", homeless)
    with pytest.raises(RunError, match="SATEXPORT_CACHE=DIR"):
        load_checkpoint("published", SAT_T)


# ESC-50.

FILES = {"ESC-50-master/meta/esc50.csv": b"filename,fold,category\n", "ESC-50-master/audio/1.wav": BODY}


def archive(more: dict[str | zipfile.ZipInfo, bytes] | None = None) -> bytes:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", zipfile.ZIP_STORED) as zipped:
        zipped.writestr("ESC-50-master/", b"")
        for name, content in (FILES | (more or {})).items():
            zipped.writestr(name, content)
    return file.getvalue()


def link() -> zipfile.ZipInfo:
    entry = zipfile.ZipInfo("ESC-50-master/audio/passwd")
    entry.external_attr = (stat.S_IFLNK | 0o777) << 16
    return entry


@pytest.fixture
def esc50(site: Site, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where ESC-50 comes to lie by default; the server has it, without a length, as GitHub."""
    site.body, site.chunked = archive(), True
    monkeypatch.setenv("SATEXPORT_ESC50_URL", f"{site.url}/master.zip")
    monkeypatch.setenv("SATEXPORT_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache" / "ESC-50"


def test_esc50_is_fetched_once_after_its_licence_was_said(site: Site, esc50: Path) -> None:
    first = call("data", "esc50")
    assert (first.code, first.out) == (0, f"esc50 is there: satexport parity BUNDLE --data {esc50}\n")
    assert "CC BY-NC 3.0" in first.err
    assert (esc50 / "audio" / "1.wav").read_bytes() == BODY
    assert os.listdir(esc50.parent) == ["ESC-50"]
    again = call("data", "esc50")
    assert (again.code, again.out, again.err) == (0, first.out, "")
    assert len(site.asked) == 1


def test_the_licence_of_esc50_is_said_before_anything_comes(site: Site, esc50: Path, tmp_path: Path) -> None:
    said = []

    def announce(text: str) -> None:
        assert not site.asked
        said.append(text)

    assert fetch_esc50(tmp_path / "here", announce) == tmp_path / "here" / "ESC-50"
    assert len(said) == 1
    assert not esc50.exists()


@pytest.mark.parametrize("name", ["../../outside", "ESC-50-master/../../outside", "/outside",
                                  "ESC-50-master/C:outside", "ESC-50-master\\..\\..\\outside", link()],
                         ids=str)
def test_an_archive_that_leads_elsewhere_is_not_unpacked(site: Site, esc50: Path, tmp_path: Path,
                                                         name: str | zipfile.ZipInfo) -> None:
    site.body = archive({name: b"/etc/passwd"})
    with pytest.raises(RunError, match=r"leads out of the folder|is a link"):
        fetch_esc50(None, print)
    assert not os.listdir(esc50.parent)
    assert os.listdir(tmp_path) == ["cache"]


def flipped(content: bytes) -> bytes:
    middle = content.index(BODY) + 5000
    return content[:middle] + bytes([content[middle] ^ 1]) + content[middle + 1:]


@pytest.mark.parametrize("body", [flipped(archive()), archive()[:-30], archive()[:5000], b"", b"<html>",
                                  archive().replace(b"esc50.csv", b"other.csv")],
                         ids=["bit flipped", "no end", "half", "empty", "page", "another set"])
def test_an_archive_that_is_damaged_or_no_esc50_leaves_nothing(site: Site, esc50: Path, body: bytes) -> None:
    site.body = body
    with pytest.raises(RunError, match=r"cannot be unpacked .* run the command again"):
        fetch_esc50(None, print)
    assert not os.listdir(esc50.parent)
    site.body = archive()
    fetch_esc50(None, print)


def test_a_folder_of_that_name_with_something_else_is_left_alone(site: Site, esc50: Path) -> None:
    esc50.mkdir(parents=True)
    (esc50 / "mine").touch()
    with pytest.raises(RunError, match="no ESC-50; it is left alone"):
        fetch_esc50(None, print)
    assert not site.asked
    assert os.listdir(esc50) == ["mine"]


def test_an_unpacking_that_was_interrupted_needs_no_second_download(
        site: Site, esc50: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupted(*_: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr("shutil.copyfileobj", interrupted)
        with pytest.raises(KeyboardInterrupt):
            fetch_esc50(None, print)
    assert not esc50.exists()
    fetch_esc50(None, print)
    assert len(site.asked) == 1
