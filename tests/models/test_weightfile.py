"""Files of weights, found by their hash."""

from __future__ import annotations

import errno
import os
from pathlib import Path

import pytest

from satexport.files import sha256_of
from satexport.models import weightfile as checkpoint_file
from satexport.models.checkpoint import load_checkpoint
from tests.models.checkpoints import SAT_T, State, save_torch

pytestmark = pytest.mark.usefixtures("own_cache_folder")


def test_a_loaded_file_is_found_again_by_its_hash(sat_t: State, tmp_path: Path) -> None:
    path = save_torch(tmp_path / "w.pt", sat_t)
    sha256 = load_checkpoint(str(path), SAT_T).sha256
    assert checkpoint_file.find_by_sha256(sha256) == path.resolve()
    with path.open("ab") as file:
        file.write(b"x")
    assert checkpoint_file.find_by_sha256(sha256) is None
    path.unlink()
    assert checkpoint_file.find_by_sha256(sha256) is None


def test_a_relative_path_is_remembered_as_an_absolute_one(
        tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("w.pt").write_bytes(b"weights")
    sha256 = sha256_of(Path("w.pt"))
    checkpoint_file.remember(sha256, Path("w.pt"))
    monkeypatch.chdir("/")
    assert checkpoint_file.find_by_sha256(sha256) == (tmp_path / "w.pt").resolve()


def test_the_note_with_the_path_of_weights_is_written_whole_or_not_at_all(
        tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "w.pt").write_bytes(b"weights")
    sha256 = sha256_of(tmp_path / "w.pt")
    checkpoint_file.remember(sha256, tmp_path / "w.pt")

    def fail(*_: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
    monkeypatch.setattr(os, "replace", fail)
    checkpoint_file.remember(sha256, tmp_path / "other.pt")
    assert checkpoint_file.find_by_sha256(sha256) == (tmp_path / "w.pt").resolve()
    assert [path.name for path in (tmp_path / "cache" / "checkpoints").iterdir()] == [f"{sha256}.txt"]


def test_a_cache_folder_that_cannot_be_written_is_not_an_error(
        tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").write_bytes(b"")
    monkeypatch.setenv("SATEXPORT_CACHE", str(tmp_path / "file"))
    checkpoint_file.remember("0" * 64, tmp_path / "w.pt")
    assert checkpoint_file.find_by_sha256("0" * 64) is None


@pytest.mark.parametrize("word", ["", "../../note", "/etc/passwd", "0" * 63 + "\n"])
def test_text_that_is_not_a_hash_does_not_become_a_path(
        word: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(checkpoint_file, "_read_path", lambda _: pytest.fail("a note was read"))
    assert checkpoint_file.find_by_sha256(word) is None
