"""Targets written by a user."""

from __future__ import annotations

from pathlib import Path

import pytest

MINE = """
name = "my-board"
description = "the one on my desk"
backend = "onnxruntime"
precision = "fp32"
threads = 2

[gates]
max_score_difference = 1e-3
map_kept = 1

[budgets]
step_ms = 20
resident_mb = 150.5
transient_mb = 1e1
"""


def write(folder: Path, text: str) -> str:
    path = folder / "mine.toml"
    path.write_text(text, encoding="utf-8")
    return str(path)


def fill(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Replace the shipped targets by a folder with three targets."""
    bare = MINE.split("[budgets]", maxsplit=1)[0].replace("threads = 2", "")
    for name, text in (("board", MINE), ("any-2", bare), ("any", bare)):
        (folder / f"{name}.toml").write_text(text.replace("my-board", name))
    monkeypatch.setattr("satexport.targets.FOLDER", folder)
