"""How busy the machine is with other work."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from satexport.measure.load import busy_cores

BEFORE = "cpu 100 0 100 1000 100 0 0 0 50 0\ncpu0 1 1\n"


@pytest.mark.parametrize(("after", "share"), [
    ("cpu 150 0 100 1050 100 0 0 0 50 0\n", 0.5), ("cpu 100 0 100 1090 110 0 0 0 50 0\n", 0.0),
    ("cpu 150 10 110 1000 100 10 10 10 99 0\n", 1.0)])
def test_time_that_cores_neither_idle_nor_wait_for_a_disk_is_of_other_work(
        after: str, share: float, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    stat = tmp_path / "stat"
    stat.write_text(BEFORE)
    monkeypatch.setattr("satexport.measure.load.time.sleep", lambda _: stat.write_text(after))
    assert busy_cores(1.0, stat) == pytest.approx(share * (os.cpu_count() or 1))


@pytest.mark.parametrize("content", [None, "", "cpu\n", "cpu x\n", BEFORE])
def test_a_system_that_does_not_tell_has_no_figure(content: str | None, tmp_path: Path) -> None:
    if content is not None:
        (tmp_path / "stat").write_text(content)
    assert busy_cores(0.0, tmp_path / "stat") is None
