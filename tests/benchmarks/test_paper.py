"""docs/paper.md is written from the reports of `satexport paper`."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from benchmarks.paper import BEGIN, END, write_page
from satexport.errors import DataError
from satexport.files import write_json
from satexport.report.serialize import to_json
from tests.machine import need
from tests.report.records import paper_report, scores_report


def test_the_page_has_the_tables_in_order_and_keeps_the_rest(tmp_path: Path) -> None:
    need("matplotlib", "measure")
    page, picture, folder = tmp_path / "page.md", tmp_path / "figure2.png", tmp_path / "reports"
    page.write_text(f"before\n{BEGIN}\nold\n{END}\nafter\n")
    later = replace(paper_report(), table="efficientat", title="Another table")
    for name, report in (("table2", paper_report()), ("efficientat", later), ("figure2", scores_report())):
        write_json(folder / f"{name}.json", to_json(report))
    write_page(folder, page, picture)
    text = page.read_text()
    assert text.startswith(f"before\n{BEGIN}\n\n### Table 2\n")
    assert text.endswith(f"\n\n{END}\nafter\n")
    assert "old" not in text
    assert text.index("### Table 2") < text.index("### Another table")
    assert "| sat-t-2s | SAT-T " in text
    assert "Not measured, there is no such model here: KD-AST." in text
    assert picture.read_bytes().startswith(b"\x89PNG")
    write_page(folder, page, picture)
    assert page.read_text() == text


def test_without_reports_or_a_place_on_the_page_nothing_is_written(tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    page.write_text(f"{BEGIN}\n{END}\n")
    with pytest.raises(DataError, match="has no reports"):
        write_page(tmp_path, page, tmp_path / "figure2.png")
    page.write_text("no marks\n")
    with pytest.raises(DataError, match="lacks the lines"):
        write_page(tmp_path, page, tmp_path / "figure2.png")
    assert page.read_text() == "no marks\n"
