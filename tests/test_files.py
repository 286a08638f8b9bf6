"""The user's cache folder."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from satexport import files


def test_the_cache_folder_follows_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SATEXPORT_CACHE", "/a")
    assert files.cache_folder() == Path("/a")
    monkeypatch.delenv("SATEXPORT_CACHE")
    for platform, name, value, folder in (
            ("linux", "XDG_CACHE_HOME", "/b", "/b/satexport"),
            ("linux", "HOME", "/home/me", "/home/me/.cache/satexport"),
            ("darwin", "HOME", "/Users/me", "/Users/me/Library/Caches/satexport"),
            ("win32", "LOCALAPPDATA", "/local", "/local/satexport/Cache")):
        with monkeypatch.context() as patch:
            patch.delenv("XDG_CACHE_HOME", raising=False)
            patch.setattr(sys, "platform", platform)
            patch.setenv(name, value)
            assert files.cache_folder() == Path(folder)


def test_the_target_of_a_link_is_replaced_and_the_link_stays(tmp_path: Path) -> None:
    (tmp_path / "real.csv").write_text("old")
    (tmp_path / "link.csv").symlink_to("real.csv")
    files.write_text(tmp_path / "link.csv", "new")
    assert (tmp_path / "link.csv").is_symlink()
    assert (tmp_path / "real.csv").read_text() == "new"
