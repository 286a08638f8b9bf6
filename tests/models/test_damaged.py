"""Files that are not checkpoints, and damaged checkpoints."""

from __future__ import annotations

import io
import os
import zipfile
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.models.checkpoints import Save, State, both_formats, refusal

pytestmark = pytest.mark.usefixtures("own_cache_folder", "one_thread")


@pytest.mark.parametrize(("content", "words"), [
    (b"", "is empty"),
    (b"\n<!DOCTYPE html><html><body>Not found</body></html>", "is an HTML page"),
    (b"PK", "neither a PyTorch nor a safetensors file"),
    (b"hello, world", "neither a PyTorch nor a safetensors file"),
])
def test_the_error_says_what_a_file_is_that_is_not_a_checkpoint(
        content: bytes, words: str, tmp_path: Path) -> None:
    path = tmp_path / "w.pt"
    path.write_bytes(content)
    assert words in refusal(path)


@pytest.mark.parametrize("what", ["publish", "nowhere.pt"])
def test_the_error_for_a_missing_file_names_the_words_that_need_no_file(what: str) -> None:
    message = refusal(Path(what))
    assert "no such file" in message
    assert "demo, random" in message


def test_a_folder_is_refused(tmp_path: Path) -> None:
    assert "is a folder" in refusal(tmp_path)


@pytest.mark.skipif(os.name != "posix", reason="a device is a path on POSIX systems")
def test_a_device_is_refused() -> None:
    assert "is a pipe or device" in refusal(Path(os.devnull))


@pytest.mark.parametrize("error", [PermissionError(13, "Permission denied"), OSError("Permission denied")])
def test_the_error_for_an_unreadable_file_says_why(
        error: OSError, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def closed(*_: object) -> None:
        raise error
    (tmp_path / "w.pt").write_bytes(b"x")
    monkeypatch.setattr(Path, "open", closed)
    assert "cannot be read (Permission denied)" in refusal(tmp_path / "w.pt")


def zipped(method: int, bits: int, at: int = 0, header: int = 0) -> bytes:
    """Return a zip of one part, compressed by a method, with bits flipped in a byte of the part, or in a byte
    of both its headers."""
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", method) as archive:
        archive.writestr("x/data.pkl", bytes(range(200)))
    content = bytearray(file.getvalue())
    for offset in (header, content.index(b"PK\1\2") + 2 + header) if header else (
            content.index(b"data.pkl") + len("data.pkl") + at,):
        content[offset] ^= bits
    return bytes(content)


@pytest.mark.parametrize("content", [
    zipped(zipfile.ZIP_DEFLATED, 0xFF, at=1), zipped(zipfile.ZIP_BZIP2, 0xFF, at=1),
    zipped(zipfile.ZIP_LZMA, 0xFF, at=9), zipped(zipfile.ZIP_DEFLATED, 0x60, header=8),
    zipped(zipfile.ZIP_DEFLATED, 1, header=6)],
    ids=["deflate", "bzip2", "lzma", "an unknown method", "encrypted"])
def test_a_zip_that_cannot_be_unpacked_is_called_damaged(content: bytes, tmp_path: Path) -> None:
    (tmp_path / "w.pt").write_bytes(content)
    assert "is damaged, or was not written by torch.save" in refusal(tmp_path / "w.pt")


def test_a_zip_that_torch_did_not_write_is_refused(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "w.pt", "w") as archive:
        archive.writestr("a/readme.txt", "hello")
    assert "was not written by torch.save" in refusal(tmp_path / "w.pt")


@both_formats
@pytest.mark.parametrize("share", [1e-7, 1e-6, 1e-5, 0.001, 0.5, 0.999, 1 - 1e-7])
def test_a_truncated_file_is_refused(
        save: Save, share: float, sat_t: State, tmp_path: Path) -> None:
    path = save(tmp_path / "w", sat_t)
    os.truncate(path, int(share * path.stat().st_size))
    assert "download it again" in refusal(path)


@settings(max_examples=150)
@given(st.sampled_from([b"", b"PK\x03\x04", b"\x80\x02", b"\x80\x02}", b"\x28" + bytes(7) + b"{"]),
       st.binary(max_size=80))
def test_random_bytes_always_give_a_checkpoint_error(
        tmp_path_factory: pytest.TempPathFactory, magic: bytes, rest: bytes) -> None:
    path = tmp_path_factory.getbasetemp() / "fuzz.pt"
    path.write_bytes(magic + rest)
    assert refusal(path).startswith(f"{path}: ")
