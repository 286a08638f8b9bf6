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
