"""ESC-50: downloaded once, after its licence was printed, and unpacked strictly."""

from __future__ import annotations

import io
import os
import stat
import zipfile
from pathlib import Path

import pytest

from satexport.audio.esc50 import fetch_esc50
from satexport.errors import RunError
from tests.commands.calls import call
from tests.site import BODY, Site

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
    """The default folder of ESC-50; the server sends the archive without a length, like GitHub."""
    site.body, site.chunked = archive(), True
    monkeypatch.setenv("SATEXPORT_ESC50_URL", f"{site.url}/master.zip")
    monkeypatch.setenv("SATEXPORT_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache" / "ESC-50"


def test_esc50_is_downloaded_once_after_its_licence_was_printed(site: Site, esc50: Path) -> None:
    first = call("data", "esc50")
    assert (first.code, first.out) == (0, f"esc50 is ready: satexport parity BUNDLE --data {esc50}\n")
    assert "CC BY-NC 3.0" in first.err
    assert (esc50 / "audio" / "1.wav").read_bytes() == BODY
    assert os.listdir(esc50.parent) == ["ESC-50"]
    again = call("data", "esc50")
    assert (again.code, again.out, again.err) == (0, first.out, "")
    assert len(site.asked) == 1


def test_the_licence_of_esc50_is_printed_before_the_download(site: Site, esc50: Path, tmp_path: Path) -> None:
    announced = []

    def announce(text: str) -> None:
        assert not site.asked
        announced.append(text)

    assert fetch_esc50(tmp_path / "here", announce) == tmp_path / "here" / "ESC-50"
    assert len(announced) == 1
    assert not esc50.exists()


@pytest.mark.parametrize("name", ["../../outside", "ESC-50-master/../../outside", "/outside",
                                  "ESC-50-master/C:outside", "ESC-50-master\\..\\..\\outside", link()],
                         ids=str)
def test_an_archive_that_writes_outside_its_folder_is_not_unpacked(site: Site, esc50: Path, tmp_path: Path,
                                                                   name: str | zipfile.ZipInfo) -> None:
    site.body = archive({name: b"/etc/passwd"})
    with pytest.raises(RunError, match=r"points outside the folder|is a link"):
        fetch_esc50(None, print)
    assert not os.listdir(esc50.parent)
    assert os.listdir(tmp_path) == ["cache"]


def flipped(content: bytes) -> bytes:
    middle = content.index(BODY) + 5000
    return content[:middle] + bytes([content[middle] ^ 1]) + content[middle + 1:]


@pytest.mark.parametrize("body", [flipped(archive()), archive()[:-30], archive()[:5000], b"", b"<html>",
                                  archive().replace(b"esc50.csv", b"other.csv")],
                         ids=["bit flipped", "no end", "half", "empty", "page", "another set"])
def test_an_archive_that_is_damaged_or_not_esc50_leaves_no_files(
        site: Site, esc50: Path, body: bytes) -> None:
    site.body = body
    with pytest.raises(RunError, match=r"cannot be unpacked .* run the command again"):
        fetch_esc50(None, print)
    assert not os.listdir(esc50.parent)
    site.body = archive()
    fetch_esc50(None, print)


def test_a_folder_named_esc50_with_other_content_is_not_changed(site: Site, esc50: Path) -> None:
    esc50.mkdir(parents=True)
    (esc50 / "mine").touch()
    with pytest.raises(RunError, match="is not ESC-50; it was not changed"):
        fetch_esc50(None, print)
    assert not site.asked
    assert os.listdir(esc50) == ["mine"]


def test_interrupted_unpacking_needs_no_second_download(
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
