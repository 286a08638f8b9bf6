"""Fixtures for the tests of the pipeline."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.bundle.copies import output_with


@pytest.fixture
def export(tiny: Path, tmp_path: Path) -> Path:
    """An output folder with the export of a small model."""
    return output_with(tiny, tmp_path)
