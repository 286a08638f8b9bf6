"""What several tests of the pipeline need."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.bundle.copies import output_with


@pytest.fixture
def export(tiny: Path, tmp_path: Path) -> Path:
    """An output folder that holds the export of a small model."""
    return output_with(tiny, tmp_path)
