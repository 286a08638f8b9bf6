"""Fixtures for the tests of the pipeline."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from satexport.pipeline import matrix as pipeline
from tests.bundle.copies import output_with
from tests.pipeline.matrices import Runner


@pytest.fixture
def export(tiny: Path, tmp_path: Path) -> Path:
    """An output folder with the export of a small model."""
    return output_with(tiny, tmp_path)


@pytest.fixture
def write(tmp_path: Path) -> Callable[[str], Path]:
    """A function that writes a matrix."""
    def write(text: str) -> Path:
        path = tmp_path / "matrix.toml"
        path.write_text(text, "utf-8")
        return path
    return write


@pytest.fixture
def runner(monkeypatch: pytest.MonkeyPatch) -> Runner:
    runner = Runner()
    monkeypatch.setattr(pipeline, "run_case", runner)
    return runner
