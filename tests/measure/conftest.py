"""What several tests of measuring need."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from satexport.measure import schedule
from tests.bundle.copies import copy_of


@pytest.fixture(scope="module")
def whole_turns() -> Iterator[None]:
    """A turn has all its steps, however long this machine takes for them."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(schedule, "TURN_SECONDS", 1e9)
        yield


@pytest.fixture
def bundle(tiny: Path, tmp_path: Path) -> Path:
    """A bundle, to write reports into or to spoil."""
    return copy_of(tiny, tmp_path)


@pytest.fixture
def few_turns(monkeypatch: pytest.MonkeyPatch) -> None:
    """For what is measured in this process."""
    monkeypatch.setattr(schedule, "TURNS", 3)
    monkeypatch.setattr(schedule, "PAUSED_TURNS", 2)
