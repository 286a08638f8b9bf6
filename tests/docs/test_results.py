"""docs/results: pages of figures that were measured, one for each CPU."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from benchmarks import cases as shown
from benchmarks import tables
from benchmarks.cases import read_cases
from satexport.errors import DataError
from satexport.files import write_json
from satexport.report.records import CaseResult, MatrixReport
from satexport.report.serialize import to_json
from tests.report.records import measure_report, parity_report

CASES = read_cases()
CPUS = sorted(path.stem for path in tables.RESULTS.glob("*.json"))
MACHINE = {"cpu": "A machine", "cpu_cores": 2, "cpu_flags": [], "system": "Linux",
           "versions": {"onnxruntime": "1.31.1"}}


@pytest.mark.parametrize("path", tables.pages(CASES), ids=lambda path: path.name)
def test_a_page_says_what_was_measured(path: Path) -> None:
    assert path.read_text("utf-8") == tables.pages(CASES)[path], "run `python -m benchmarks.tables`"


@pytest.mark.parametrize("cpu", CPUS)
def test_a_file_is_called_as_its_cpu_and_has_no_case_that_no_table_shows(cpu: str) -> None:
    content = tables.read_results(tables.RESULTS / f"{cpu}.json")
    assert tables.cpu_name(content) == cpu
    assert set(content["cases"]) <= set(CASES.all())


def test_every_case_has_a_name_of_its_own() -> None:
    names = CASES.all()
    assert len(set(names)) == len(names)


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Results of another CPU, and a place for those of this one."""
    monkeypatch.setattr(tables, "RESULTS", tmp_path)
    monkeypatch.setattr(tables, "README", tmp_path / "root.md")
    (tmp_path / "root.md").write_text(f"before {tables.BEGIN}{tables.END} after", "utf-8")
    other = {"kind": "results", "cpu": "Other", "cpu_cores": 4, "cpu_flags": [], "cases": {
        name: {"figures": {"burst_median_ms": 7.0}, "threads": 4, "steps": 40, "executed": {},
               "over": "1 min of stream", "set": None,
               "versions": {"onnxruntime": "1.0"}} for name in CASES.headline.cases}}
    (tmp_path / f"{CASES.headline.cpu}.json").write_text(json.dumps(other), "utf-8")
    return tmp_path


def take(folder: Path, monkeypatch: pytest.MonkeyPatch, *cases: CaseResult) -> None:
    """Run the command on the report of these cases."""
    report = folder / "matrix" / "cases.json"
    write_json(report, to_json(MatrixReport(matrix="cases.toml", cases=cases, origin=MACHINE)))
    monkeypatch.setattr("sys.argv", ["tables", str(report)])
    tables.main()


def ran(name: str) -> CaseResult:
    measured = replace(measure_report(), origin=MACHINE)
    return CaseResult(name=name, table="", fingerprint="", parity=replace(parity_report(), labelled_set=None),
                      measured=measured)


def not_run(name: str, why: str, is_error: bool = False) -> CaseResult:
    return CaseResult(name=name, table="", fingerprint="", why_not=why, is_error=is_error)


def stored(folder: Path) -> dict[str, Any]:
    content: dict[str, Any] = json.loads((folder / "a-machine-2-cores.json").read_bytes())
    return content


def test_results_are_taken_to_their_own_cpu_and_a_case_that_cannot_run_says_why(
        folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    other = (folder / f"{CASES.headline.cpu}.json").read_bytes()
    own = "a-machine-2-cores"
    take(folder, monkeypatch, ran("sat-t-2s"), not_run("sat-t-2s-openvino-bf16", "this CPU has no bf16"))
    assert (folder / f"{CASES.headline.cpu}.json").read_bytes() == other
    page = (folder / f"{own}.md").read_text("utf-8")
    rows = [[cell.strip() for cell in line.strip("|").split("|")] for line in page.splitlines()]
    assert any(row[:2] == ["sat-t-2s", "2.50"] and row[-2:] == ["10 min", "-"] for row in rows)
    assert ["sat-t-2s-openvino-bf16", "not run: this CPU has no bf16"] in [row[:2] for row in rows]
    assert "Not run on this CPU yet: sat-t-1s" in page
    take(folder, monkeypatch, ran("sat-t-1s"))
    assert {"sat-t-2s", "sat-t-1s", "sat-t-2s-openvino-bf16"} == set(stored(folder)["cases"])
    assert f"[{own}]({own}.md)" in (folder / "README.md").read_text("utf-8")


def test_a_note_is_of_the_cases_that_have_it_and_goes_when_they_run_again(
        folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    take(folder, monkeypatch, ran("sat-t-1s"), ran("sat-t-2s"))
    content = stored(folder)
    for case in content["cases"].values():
        case["note"] = "taken over."
    write_json(folder / "a-machine-2-cores.json", content)
    take(folder, monkeypatch, ran("sat-t-2s"))
    assert "1 of 2 cases: taken over." in (folder / "a-machine-2-cores.md").read_text("utf-8")


def test_a_case_that_cannot_run_this_time_keeps_its_figures_and_one_that_fails_does_not(
        folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    take(folder, monkeypatch, ran("sat-t-2s"))
    before = stored(folder)["cases"]
    take(folder, monkeypatch, not_run("sat-t-2s", "not installed"))
    assert stored(folder)["cases"] == before
    assert "its earlier figures stay: not installed" in capsys.readouterr().out
    take(folder, monkeypatch, not_run("sat-t-2s", "broken", is_error=True))
    assert stored(folder)["cases"] == {"sat-t-2s": {"why_not": "failed: broken"}}


def test_a_case_that_was_measured_but_not_proven_leaves_the_figures_as_they_were(
        folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    take(folder, monkeypatch, ran("sat-t-2s"))
    before = stored(folder)["cases"]
    take(folder, monkeypatch, *(replace(ran(name), parity=None) for name in ("sat-t-2s", "sat-t-1s")))
    assert stored(folder)["cases"] == before
    assert "sat-t-2s was not proven, and its earlier figures stay." in capsys.readouterr().out


def test_another_report_is_refused(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_json(folder / "other" / "measure.json", to_json(measure_report()))
    monkeypatch.setattr("sys.argv", ["tables", str(folder / "other" / "measure.json")])
    with pytest.raises(DataError, match="is not the report of a matrix"):
        tables.main()


def test_what_the_pages_quote_has_no_unknown_key(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = tmp_path / "pages.toml"
    file.write_text(shown.PAGES.read_text("utf-8").replace("source =", "origin =", 1), "utf-8")
    monkeypatch.setattr(shown, "PAGES", file)
    with pytest.raises(DataError, match="unknown key 'origin'"):
        read_cases.__wrapped__()


@pytest.mark.parametrize("cpu", CPUS)
def test_results_name_a_set_by_its_kind_and_not_by_its_path(cpu: str) -> None:
    cases = tables.read_results(tables.RESULTS / f"{cpu}.json")["cases"]
    assert {case.get("set") for case in cases.values()} <= {None, "synthetic", "esc50"}
