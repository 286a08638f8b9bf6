"""A figure that a paper does not give is a dash, in tables and pictures."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from satexport.models.sat.paper import PAPER
from tests.commands.calls import call


def test_a_figure_that_the_paper_does_not_give_is_a_dash(
        demo: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(PAPER, "sat-t-2s", replace(PAPER["sat-t-2s"], memory_mb=None, gflops=None))
    monkeypatch.setenv("COLUMNS", "200")
    result = call("measure", demo, "--no-eager", "--steps", 2, "--pause", 0.01, "--report", tmp_path)
    assert (result.code, "- / -" in result.out) == (0, True)
    listed = next(line for line in call("models").out.splitlines() if "SAT_T_stream2s_mAP_43_34.pt" in line)
    assert [cell.strip() for cell in listed.split("\u2502")][3:6] == ["-", "-", "43.3"]
