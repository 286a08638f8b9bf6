"""One row of a table defines a figure for the terminal, Markdown, the picture, JSON and docs."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest

from benchmarks import tables
from benchmarks.cases import read_cases
from satexport.measure.records import MeasureEntry
from satexport.report import blocks, figures, pictures
from satexport.report.figure import Figure
from satexport.report.figures import FIGURES, KIND_FIGURES, MEASURE_FIGURES
from satexport.report.markdown import to_markdown
from satexport.report.page.write import write_page
from satexport.report.serialize import to_json
from satexport.report.sources import Source
from satexport.report.terminal import print_blocks
from satexport.report.terms import TERMS
from satexport.version import __version__
from tests.report.records import all_reports, measure_report

ENERGY = Figure[MeasureEntry](key="energy_mj", title="energy", unit="mJ", format=".1f",
                              definition="energy of one step", of=lambda entry: 12.34)


@pytest.fixture
def with_energy(monkeypatch: pytest.MonkeyPatch) -> None:
    """Add one row to the table of figures, and change nothing else."""
    added = (*MEASURE_FIGURES, ENERGY)
    monkeypatch.setattr(figures, "FIGURES", {**FIGURES, MeasureEntry: added})
    monkeypatch.setattr(figures, "KIND_FIGURES", {**KIND_FIGURES, "measure": (added,)})
    for module in (blocks, pictures):
        monkeypatch.setattr(module, "MEASURE_FIGURES", added)
    monkeypatch.setattr(tables, "FIGURES", [*tables.FIGURES, ENERGY])


@pytest.mark.usefixtures("with_energy")
def test_a_figure_that_is_added_appears_everywhere(
        capsys: pytest.CaptureFixture[str]) -> None:
    report = measure_report()
    print_blocks(blocks.describe(report))
    assert "│ energy, mJ" in capsys.readouterr().out
    assert "| energy, mJ " in to_markdown(blocks.describe(report))
    content = to_json(report)
    assert content["bundles"][0]["figures"]["energy_mj"] == 12.34
    assert content["definitions"]["energy_mj"] == "energy of one step"
    assert "energy, mJ" in panels_of(pictures.draw_measure(report))
    assert "energy, mJ" in write_page([Source(path=Path("measure.json"), bundle=None, reports=(report,))])
    cases = read_cases()
    results: dict[str, Any] = json.loads((tables.RESULTS / f"{cases.headline.cpu}.json").read_bytes())
    results["cases"]["sat-t-2s-int8"]["figures"]["energy_mj"] = 12.34
    assert "| energy, mJ |" in tables.page(results, cases)


def test_short_tables_have_the_share_of_a_core_beside_the_cpu_time() -> None:
    cases = read_cases()
    results: dict[str, Any] = json.loads((tables.RESULTS / f"{cases.headline.cpu}.json").read_bytes())
    results["cases"]["sat-t-2s-int8"]["figures"] |= {"cpu_ms": 4.5, "cpu_percent": 0.225}
    assert "| CPU time per chunk, ms | share of a core, % |" in tables.page(results, cases)


def test_a_page_of_results_has_a_table_of_growth_if_it_was_measured() -> None:
    results: dict[str, Any] = {"cpu": "a CPU", "cpu_cores": 2, "cpu_flags": [], "cases": {}}
    assert "Growth" not in tables.page(results, read_cases())
    results["growth"] = {"sat-t-2s, cpu-int8": {"versions": {"onnxruntime": "1.31.1"}, "figures": {
        "1": {"cpu_ms": 4.5, "resident_mb": 24.0}, "64": {"cpu_ms": 3.5, "resident_mb": 170.0}}}}
    section = tables.page(results, read_cases()).split("## Growth: sat-t-2s, cpu-int8")[1]
    rows = [[cell.strip() for cell in line.strip("| ").split("|")] for line in section.splitlines()]
    assert ["1", "-", "4.50", "-", "-", "-", "24.0", "-"] in rows
    assert ["64", "-", "3.50", "-", "-", "-", "170.0", "-"] in rows


def panels_of(canvas: Any) -> dict[str, Any]:
    """Return the visible panels of a picture by their titles."""
    return {axes.get_title("left"): axes for axes in canvas.axes if axes.get_visible()}


def test_every_figure_has_a_unique_key_and_a_definition() -> None:
    for kind, groups in KIND_FIGURES.items():
        keys = [figure.key for group in groups for figure in group]
        assert len(set(keys)) == len(keys), kind
        assert not set(keys) & set(TERMS[kind])
    assert all(figure.definition and figure.title for group in FIGURES.values() for figure in group)


def test_a_mark_belongs_to_a_panel_that_is_drawn() -> None:
    panels = {figure.key for figure in MEASURE_FIGURES if figure.pictured and not figure.panel_of}
    for figure in MEASURE_FIGURES:
        assert not figure.panel_of or figure.panel_of in panels
        assert bool(figure.panel_of) == bool(figure.mark)
        assert not figure.mark or figure.mark in pictures.MARKS


def test_every_figure_of_a_report_is_in_its_json() -> None:
    for report in all_reports():
        content = to_json(report)
        defined = {figure.key for group in KIND_FIGURES[content["kind"]] for figure in group}
        assert defined <= set(content.pop("definitions"))
        assert defined <= set(re.findall(r'"(\w+)":', json.dumps(content)))


@pytest.mark.parametrize("bundles", [1, 7])
def test_a_picture_has_a_panel_for_each_figure_and_a_value_for_each_bar(tmp_path: Path, bundles: int) -> None:
    report = measure_report()
    report = type(report)(**{**vars(report), "bundles": report.bundles * bundles})
    canvas = pictures.draw_measure(report)
    pictured = {figure.head: figure for figure in MEASURE_FIGURES
                if figure.pictured and not figure.panel_of and figure.of(report.bundles[0]) is not None}
    panels = panels_of(canvas)
    assert list(panels) == list(pictured)
    for head, axes in panels.items():
        assert [text.get_text() for text in axes.texts] == [
            pictured[head].text(entry) for entry in (*report.bundles, *report.eager)]
        assert axes.get_xlim()[0] == 0
    title = canvas.get_suptitle()
    assert report.machine in title
    assert f"satexport {__version__}" in title.replace("\n", " ")
    assert pictures.write_picture(tmp_path / "measure.png", report) == []
    assert (tmp_path / "measure.png").read_bytes().startswith(b"\x89PNG")


def test_the_legend_lies_on_no_panel() -> None:
    canvas = pictures.draw_measure(measure_report())
    pictures.png_of(canvas)  # which lays it out
    legend = canvas.legends[0].get_window_extent()
    assert [text.get_text() for text in canvas.legends[0].get_texts()] == [
        "p99", pictures.BEYOND, "paper"]
    for axes in panels_of(canvas).values():
        assert not legend.overlaps(axes.get_window_extent())


def test_one_thread_is_singular() -> None:
    report = measure_report()
    assert report.machine.endswith(", 2 threads")
    one = type(report)(**{**vars(report), "eager": (), "bundles": (
        MeasureEntry(**{**vars(report.bundles[0]), "threads": 1}),)})
    assert one.machine.endswith(", 1 thread")


def test_a_figure_that_a_paper_does_not_give_is_a_dash_and_has_no_mark() -> None:
    report = measure_report()
    without = MeasureEntry(**{**vars(report.bundles[0]), "name": "no figures", "paper": {
        "gflops": None, "memory_mb": None, "map": 48.1, "note": ""}})
    report = type(report)(**{**vars(report), "bundles": (*report.bundles, without)})
    table = to_markdown(blocks.describe(report)).split("paper: model, GFLOP")[1]
    assert [cell.strip() for cell in table.splitlines()[0].strip("| ").split("|")] == ["0.5", "-", "0.5"]
    marks = panels_of(pictures.draw_measure(report))["model, GFLOP"].lines
    assert [list(mark.get_ydata()) for mark in marks] == [[0, 2]]  # of the other bundle and of PyTorch
