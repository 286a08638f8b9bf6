"""The page of unusual reports: hostile text, no bundle, no numbers, many classes, other machines."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from satexport.bundle.contract import RANDOM_WEIGHTS, CheckpointOrigin
from satexport.files import json_text
from satexport.origin import origin
from satexport.parity.records import ClassMetrics, ParityReport
from satexport.quantize.records import SensitivityReport
from satexport.report.blocks import MOST_CLASSES
from satexport.report.page.sections import LAYERS
from satexport.report.page.write import write_page
from satexport.report.records import Report, kind_of
from satexport.report.serialize import from_json, to_json
from satexport.report.sources import read_sources
from tests.report.page.bundles import make_bundle
from tests.report.page.reader import page_of, page_of_report, read_page, section_of
from tests.report.records import all_reports, matrix_report, measure_entry, measure_report, parity_report

HOSTILE = "<script>alert(1)</script> & \"'\u202eevil"


def test_text_from_reports_is_never_markup(tmp_path: Path) -> None:
    parity = parity_report()
    assert parity.labelled_set
    assert parity.labelled_set.intervals
    metrics = replace(parity.labelled_set.bundle,
                      classes={HOSTILE: parity.labelled_set.bundle.classes["Dog"]})
    intervals = replace(parity.labelled_set.intervals, classes={
        HOSTILE: parity.labelled_set.intervals.classes["Dog"]})
    found = replace(parity.labelled_set, name=HOSTILE, bundle=metrics, pytorch=metrics, intervals=intervals)
    hostile = replace(parity, labelled_set=found, gates=tuple(
        replace(gate, name=HOSTILE, note=HOSTILE) for gate in parity.gates),
        differences={HOSTILE: parity.differences["ESC-50"]})
    measured = measure_report()
    measured = replace(measured, bundles=(replace(measured.bundles[0], name=HOSTILE),), notes=(HOSTILE,))
    bundle = make_bundle(tmp_path / "R&D <b>", [hostile, measured],
                         checkpoint=CheckpointOrigin(name=HOSTILE, source="file", sha256="ab" * 32))
    other = shutil.copytree(bundle, tmp_path / "again")
    html = write_page(read_sources([bundle, other, bundle])[0])  # the first one counts once
    page = read_page(html)
    assert len(page.all("script")) == 1
    assert "<script>alert" not in html
    assert "\u202e" not in html
    shown = HOSTILE.replace("\u202e", "\\u202e")
    assert page.all("h1")[0].text == "2 bundles compared"
    for text in ("Gates", "Average precision"):
        tables = [grid for grid in page.all("div", **{"class": "grid"}) if grid.text.startswith(text)]
        assert shown in tables[0].all("th", scope="row")[0].text
    assert "R&D <b>" in page.all("nav")[0].text  # two of one name are told apart by their paths


def test_random_weights_failed_gates_and_a_report_of_another_bundle_are_said_first(tmp_path: Path) -> None:
    parity = parity_report()
    random = CheckpointOrigin(name="random (seed 0)", source="random", sha256="ab" * 32)
    failed = replace(parity, checkpoint=random, gates=(
        replace(parity.gates[0], status="failed", note="0.5, at least 0.9"),))
    bundle = make_bundle(tmp_path, [failed], checkpoint=random)
    strange = make_bundle(tmp_path, [], "cpu-int8")
    (strange / "reports" / "parity.json").write_text(json_text(to_json(parity)), "utf-8")
    page = page_of([bundle, strange])
    header = page.all("header")[0].text
    assert "1 of 2 bundles failed; 1 was not judged, or only in part" in header
    assert f"Warning. {RANDOM_WEIGHTS}." in header
    section = section_of(page, "sat-t-2s/cpu-int8")
    assert "The parity report in this bundle is about another bundle" in section.text
    assert len(page.table("figures of the bundles")) == 2


def test_times_from_different_machines_are_not_compared_in_silence(tmp_path: Path) -> None:
    other = replace(measure_report(), origin={**origin(), "cpu": "another CPU"})
    page = page_of([make_bundle(tmp_path, [measure_report()]), make_bundle(tmp_path, [other], "cpu-int8")])
    assert "Times were measured under different conditions and do not compare" in page.text


def test_bundles_that_were_measured_in_different_runs_are_compared_with_care(tmp_path: Path) -> None:
    report = measure_report()
    slower = replace(report, eager=(measure_entry(report.eager[0].name, 8.5),))
    page = page_of([make_bundle(tmp_path, [report]), make_bundle(tmp_path, [slower], "cpu-int8")])
    assert "The bundles were measured in different runs" in page.text
    page = page_of([tmp_path / "sat-t-2s" / "onnx"] * 2)
    assert "different runs" not in page.text


def test_a_bundle_that_was_only_measured_has_not_passed(tmp_path: Path) -> None:
    page = page_of([make_bundle(tmp_path, [measure_report()])])
    assert "No gate failed, but not all were judged" in page.all("header")[0].text
    assert "Not proven" in section_of(page, "sat-t-2s/onnx").text
    assert page.table("figures of the bundles")[1][2] == "skipped"


def test_of_many_classes_those_that_differ_most_are_drawn_and_the_others_folded() -> None:
    parity = parity_report()
    assert parity.labelled_set
    alike = ClassMetrics(average_precision=0.9, auc=0.9, best_f1=0.9)
    names = [f"class {number:03}" for number in range(MOST_CLASSES + 7)]
    pytorch = replace(parity.labelled_set.pytorch, classes=dict.fromkeys(names, alike))
    moved = {name: replace(alike, average_precision=0.5) for name in names[7:]}
    bundle = replace(pytorch, classes={**pytorch.classes, **moved})
    found = replace(parity.labelled_set, pytorch=pytorch, bundle=bundle, intervals=None)
    report = replace(parity, labelled_set=found)
    page = page_of_report(report)
    drawn = page.table(f"Average precision of the {MOST_CLASSES} classes that differ most")
    assert [row[0] for row in drawn[1:]] == names[7:]
    assert drawn[1][4] == "-0.400"
    assert [row[0] for row in page.table("The other 7 classes")[1:]] == names[:7]
    assert page.all("details")[0].all("summary")[0].text == "The other 7 classes"


@pytest.mark.parametrize(("cases", "style"), [(8, "wide turned"), (9, "wide dense")])
def test_a_wide_table_is_turned_on_paper_unless_it_has_many_rows(cases: int, style: str) -> None:
    report = matrix_report()
    page = page_of_report(replace(report, cases=report.cases[:1] * cases))
    assert page.all("table")[0].attributes["class"] == style


def test_the_layers_that_cost_most_are_drawn_and_the_others_folded() -> None:
    (report,) = [report for report in all_reports() if isinstance(report, SensitivityReport)]
    report = replace(report, layers=tuple(replace(report.layers[0], layer=f"{number:02}.fc1")
                                          for number in range(LAYERS + 2)))
    page = page_of_report(report)
    drawn = page.table("Score difference from the fp32 graph if only this layer is int8")
    folded = page.table("the other layers")
    assert [row[0] for row in (*drawn[1:], *folded[1:])] == [layer.layer for layer in report.layers]
    assert len(folded) == 3


@pytest.mark.parametrize("report", all_reports(), ids=kind_of)
def test_a_report_without_its_bundle_is_shown(report: Report, tmp_path: Path) -> None:
    file = tmp_path / "report.json"
    file.write_text(json_text(to_json(report)), "utf-8")
    page = page_of([file])
    assert f"Of {kind_of(report)} reports" in page.text
    assert len(page.all("table")) >= 1


def test_the_cases_of_a_matrix_are_compared(tmp_path: Path) -> None:
    file = tmp_path / "matrix.json"
    file.write_text(json_text(to_json(matrix_report())), "utf-8")
    page = page_of([file])
    assert [row[1] for row in page.table("figures of the bundles")[1:]] == ["sat-t-2s"]
    assert page.all("h1")[0].text == "matrix.toml"
    assert "2 of 4 bundles failed; 1 was not judged, or only in part" in page.all("header")[0].text


def nan_everywhere(report: ParityReport) -> Report:
    """The report as if the bundle had given scores that are not finite."""
    text = json.dumps(to_json(report))
    return from_json(json.loads(text, parse_float=lambda value: None), Path("report.json"))


def without_curve(report: ParityReport) -> Report:
    return replace(report, curve=(), drift=None)


@pytest.mark.parametrize("change", [nan_everywhere, without_curve])
def test_reports_without_numbers_are_shown(change: Callable[[ParityReport], Report]) -> None:
    page = page_of_report(change(parity_report()))
    assert "Average precision of each class" in page.text
    coordinates = [value for element in (*page.all("line"), *page.all("svg"), *page.all("path"))
                   for name, value in element.attributes.items() if name in ("x", "y", "x1", "y1", "d")]
    assert not [value for value in coordinates if "nan" in value or "inf" in value]
