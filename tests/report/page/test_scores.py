"""The page shows the scores over a recording as charts, one for each label and bundle, and tables of
papers."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path

from satexport.files import write_json
from satexport.report.serialize import to_json
from tests.commands.calls import call
from tests.report.records import paper_report, scores_report


def page_of(tmp_path: Path, *reports: object) -> str:
    for number, report in enumerate(reports):
        write_json(tmp_path / "reports" / f"{number}.json", to_json(report))  # type: ignore[arg-type]
    result = call("report", tmp_path / "reports", "-o", tmp_path / "page.html")
    assert result.code == 0, result.err
    return (tmp_path / "page.html").read_text()


def charts(page: str) -> list[str]:
    return re.findall(r"<svg.*?</svg>", page, re.DOTALL)


def test_each_label_and_bundle_has_a_chart_with_the_sounds_that_are_there(tmp_path: Path) -> None:
    found = [chart for chart in charts(page_of(tmp_path, scores_report())) if "score of Dog" in chart]
    assert len(found) == 2
    assert "reset at every chunk" in found[1]
    for chart in found:
        assert "the largest 0.90" in chart
        (shaded,) = re.findall(r'<rect[^>]*class="again"[^>]*>', chart)
        assert 'x="25%"' in shaded   # from 1.5 s of 6 s
    again = [chart for chart in charts(page_of(tmp_path, replace(scores_report(), events=None)))
             if "score of Dog" in chart]
    assert not any('class="again"' in chart for chart in again)


def test_a_table_of_a_paper_is_shown_with_its_notes(tmp_path: Path) -> None:
    page = page_of(tmp_path, paper_report())
    assert "Table 2: memory of a step" in page
    assert "a note of the table" in page
    assert "KD-AST" in page
