"""Growth: several streams beside the bundle for one; what cannot be measured is named."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import pytest

from benchmarks import growth, tables
from satexport.bundle.folder import open_bundle
from satexport.errors import MissingError, RunError
from satexport.measure import schedule
from tests.machine import needs_memray

TOO_MANY = 10 ** 7


@needs_memray
def test_each_number_of_streams_is_compared_with_the_bundle_for_one_in_the_same_run(
        tiny: Path, tiny_lanes: Path, monkeypatch: pytest.MonkeyPatch,
        capsys: pytest.CaptureFixture[str]) -> None:
    for name, value in (("TURNS", 2), ("PAUSED_TURNS", 1), ("PAUSED_STEPS", 1)):
        monkeypatch.setattr(schedule, name, value)
    rows = growth.measure_growth(open_bundle(tiny), open_bundle(tiny_lanes), (3, TOO_MANY))
    assert list(rows) == ["1", "3"]
    chunks = {count: row["chunks_per_core_second"] for count, row in rows.items()}
    assert rows["3"]["times_one_stream"] == pytest.approx(chunks["3"] / chunks["1"])
    assert f"{TOO_MANY} streams: not measured" in capsys.readouterr().err


def test_a_run_that_measured_nothing_fails_and_keeps_the_figures(
        tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in (("make_bundles", lambda *_: [None, None]), ("measure_growth", lambda *_: {}),
                        ("write_pages", lambda: None), ("RESULTS", tmp_path)):
        monkeypatch.setattr(growth, name, value)
    monkeypatch.setattr(sys, "argv", ["growth", "--models", "sat-t"])
    with pytest.raises(RunError, match="nothing was measured"):
        growth.main()
    assert list(tmp_path.iterdir()) == []


def test_a_runtime_that_is_not_installed_is_skipped_by_name(
        tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    def make_bundles(checkpoint: object, target: str, folder: Path) -> list[Any]:
        if target == "openvino-int8":
            raise MissingError("openvino is not installed")
        return [None, None]

    monkeypatch.setattr(growth, "make_bundles", make_bundles)
    monkeypatch.setattr(growth, "measure_growth", lambda one, many, counts: {"1": {}})
    monkeypatch.setattr(growth, "write_pages", lambda: None)
    monkeypatch.setattr(growth, "RESULTS", tmp_path)
    monkeypatch.setattr(sys, "argv", ["growth", "--models", "sat-t"])
    growth.main()
    (file,) = tmp_path.glob("*.json")
    assert list(json.loads(file.read_bytes())["growth"]) == ["sat-t-2s, cpu-int8"]
    assert "sat-t-2s, openvino-int8 was not measured: openvino is not installed" in capsys.readouterr().err
    assert tables.read_results(file)["cases"] == {}
