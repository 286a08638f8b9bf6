"""Fixtures for the tests of measuring."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from satexport.measure import schedule
from tests.bundle.copies import copy_of


@pytest.fixture(scope="module")
def whole_turns() -> Iterator[None]:
    """Give every turn all its steps, however slow this machine is."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(schedule, "TURN_SECONDS", 1e9)
        yield


@pytest.fixture
def bundle(tiny: Path, tmp_path: Path) -> Path:
    """A copy of a bundle, to write reports into or to damage."""
    return copy_of(tiny, tmp_path)


@pytest.fixture
def few_turns(monkeypatch: pytest.MonkeyPatch) -> None:
    """Make measurements in this process short."""
    monkeypatch.setattr(schedule, "TURNS", 3)
    monkeypatch.setattr(schedule, "PAUSED_TURNS", 2)
