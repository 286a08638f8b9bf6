"""Reports as JSON: a written report can be read back; if a file cannot, the error says why."""

from __future__ import annotations

import json
import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from satexport.errors import DataError
from satexport.files import json_text
from satexport.report.records import Report, kind_of
from satexport.report.serialize import SCHEMA, read_report, to_json
from tests.report.records import all_reports, measure_report, parity_report


@pytest.mark.parametrize("report", all_reports(), ids=kind_of)
def test_a_written_report_is_read_back_unchanged(report: Report, tmp_path: Path) -> None:
    file = tmp_path / "report.json"
    file.write_text(json_text(to_json(report)), "utf-8")
    assert read_report(file) == report


def test_a_report_contains_its_kind_schema_origin_and_definitions() -> None:
    content = to_json(measure_report())
    assert (content["kind"], content["schema"], content["verdict"]) == ("measure", SCHEMA, "passed")
    assert content["origin"]["versions"]["satexport"]
    assert content["definitions"]["burst_median_ms"]
    assert content["warning"] is None


def test_a_nan_score_difference_is_null_in_json() -> None:
    report = parity_report()
    differences = replace(report.differences["ESC-50"], largest=math.nan)
    report = replace(report, differences={"ESC-50": differences})
    text = json_text(to_json(report))
    assert json.loads(text)["differences"]["ESC-50"]["largest"] is None


def damaged(**changes: Any) -> dict[str, Any]:
    content = to_json(measure_report()) | changes
    return {key: value for key, value in content.items() if value != "absent"}


@pytest.mark.parametrize(("content", "message"), [
    (damaged(schema=SCHEMA - 1), rf"schema {SCHEMA - 1}; this satexport reads schema {SCHEMA}\. Make it "
                                 "again: `satexport measure BUNDLE`"),
    (damaged(schema=SCHEMA + 1), r"made by a newer satexport.*Update satexport"),
    (damaged(schema="two"), "is a report of schema 'two'"),
    (damaged(kind="weather"), "is not a report of satexport: its `kind` is 'weather'; expected one of exp"),
    (damaged(schema="absent"), "is not a report of satexport"),
    ([1], "is not a report of satexport"),
    (damaged(bundles="absent"), "lacks 'bundles': the report is damaged"),
    (damaged(bundles=[{}]), "bundles lacks 'name': the report is damaged"),
    (damaged(bundles=7), "bundles is 7, expected another type: the report is damaged"),
    (damaged(notes=[1]), "notes is 1, expected another type"),
])
def test_a_report_that_cannot_be_read_says_why_and_what_to_do(
        content: object, message: str, tmp_path: Path) -> None:
    file = tmp_path / "measure.json"
    file.write_text(json.dumps(content), "utf-8")
    with pytest.raises(DataError, match=message) as caught:
        read_report(file)
    assert str(file) in str(caught.value)


@pytest.mark.parametrize(("content", "message"), [
    (b"", "is not JSON"), (b"{", "is not JSON"), (b"\xff\xfe", "is not JSON"),
    (b"[" * 100_000, "is not JSON"), (None, "no such file; expected a report")])
def test_a_file_that_is_missing_or_not_json_is_refused(
        content: bytes | None, message: str, tmp_path: Path) -> None:
    file = tmp_path / "measure.json"
    if content is not None:
        file.write_bytes(content)
    with pytest.raises(DataError, match=message):
        read_report(file)
