"""docs/results: pages of figures that were measured, one for each CPU."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from benchmarks import results, tables
from benchmarks.cases import FILE, Case, read_cases
from satexport.errors import DataError, MissingError, SatexportError

CASES = read_cases()
CPUS = sorted(path.stem for path in tables.RESULTS.glob("*.json"))


@pytest.mark.parametrize("path", tables.pages(CASES), ids=lambda path: path.name)
def test_a_page_says_what_was_measured(path: Path) -> None:
    assert path.read_text("utf-8") == tables.pages(CASES)[path], "run `python -m benchmarks.tables`"


@pytest.mark.parametrize("cpu", CPUS)
def test_a_file_is_called_as_its_cpu_and_has_no_case_that_no_table_shows(cpu: str) -> None:
    content = tables.read_results(tables.RESULTS / f"{cpu}.json")
    assert tables.cpu_name(content) == cpu
    assert set(content["cases"]) <= {case.name for case in CASES.all()}


def test_every_case_has_a_name_of_its_own() -> None:
    names = [case.name for case in CASES.all()]
    assert len(set(names)) == len(names)


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Results of another CPU, and a place for those of this one."""
    for module in (tables, results):
        monkeypatch.setattr(module, "RESULTS", tmp_path)
    monkeypatch.setattr(tables, "README", tmp_path / "root.md")
    (tmp_path / "root.md").write_text(f"before {tables.BEGIN}{tables.END} after", "utf-8")
    other = {"kind": "results", "cpu": "Other", "cpu_cores": 4, "cpu_flags": [], "cases": {
        name: {"figures": {"burst_median_ms": 7.0}, "threads": 4, "steps": 40, "executed": {},
               "over": "1 min of stream", "set": None,
               "versions": {"onnxruntime": "1.0"}} for name in CASES.headline.cases}}
    (tmp_path / f"{CASES.headline.cpu}.json").write_text(json.dumps(other), "utf-8")
    return tmp_path


def run_results(monkeypatch: pytest.MonkeyPatch, case_runs: Any, *arguments: str) -> None:
    monkeypatch.setattr(results, "_run", case_runs)
    monkeypatch.setattr("sys.argv", ["results", *arguments])
    results.main()


def test_a_run_replaces_only_its_own_cpu_and_a_case_that_cannot_run_says_why(
        folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def case_runs(case: Case, *_: Any) -> dict[str, Any]:
        if "bf16" in case.target:
            raise MissingError("this CPU has no bf16")
        return {"figures": {"burst_median_ms": 5.0, "weights_mb": 22.3}, "threads": 2, "steps": 40,
                "executed": {}, "over": "10 min of stream", "set": None,
                "versions": {"onnxruntime": "1.31.1"}}

    other = (folder / f"{CASES.headline.cpu}.json").read_bytes()
    own = "a-machine-2-cores"
    monkeypatch.setattr(results, "origin", lambda: {
        "cpu": "A machine", "cpu_cores": 2, "cpu_flags": [], "system": "Linux", "versions": {}})
    run_results(monkeypatch, case_runs, "--only", "sat-t-2s", "sat-t-2s-openvino-bf16")
    assert (folder / f"{CASES.headline.cpu}.json").read_bytes() == other
    page = (folder / f"{own}.md").read_text("utf-8")
    rows = [[cell.strip() for cell in line.strip("|").split("|")] for line in page.splitlines()]
    assert ["sat-t-2s", "5.00", "22.3", "10 min", "-"] in rows
    assert ["sat-t-2s-openvino-bf16", "not run: this CPU has no bf16"] in [row[:2] for row in rows]
    assert "Not run on this CPU yet: sat-t-1s" in page
    run_results(monkeypatch, case_runs, "--only", "sat-t-1s")
    assert {"sat-t-2s", "sat-t-1s", "sat-t-2s-openvino-bf16"} == set(
        json.loads((folder / f"{own}.json").read_bytes())["cases"])
    assert f"[{own}]({own}.md)" in (folder / "README.md").read_text("utf-8")


def test_a_note_is_of_the_cases_that_have_it_and_goes_when_they_run_again(
        folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fresh = {"figures": {"burst_median_ms": 5.0}, "threads": 2, "steps": 40, "executed": {}, "set": None,
             "over": "10 min of stream", "versions": {"onnxruntime": "1.31.1"}}
    made = {"cpu": "A machine", "cpu_cores": 2, "cpu_flags": [], "system": "Linux", "versions": {}}
    monkeypatch.setattr(results, "origin", lambda: made)
    file = folder / "a-machine-2-cores.json"
    file.write_text(json.dumps(made | {"cases": {
        name: fresh | {"note": "taken over."} for name in ("sat-t-1s", "sat-t-2s")}}), "utf-8")
    run_results(monkeypatch, lambda *_: fresh, "--only", "sat-t-2s")
    assert "1 of 2 cases: taken over." in file.with_suffix(".md").read_text("utf-8")


def test_a_case_that_cannot_run_this_time_keeps_its_figures_and_one_that_fails_does_not(
        folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    def ends_with(error: SatexportError) -> Any:
        def case_runs(*_: Any) -> dict[str, Any]:
            raise error
        return case_runs

    made = {"cpu": "A machine", "cpu_cores": 2, "cpu_flags": [], "system": "Linux", "versions": {}}
    monkeypatch.setattr(results, "origin", lambda: made)
    file = folder / "a-machine-2-cores.json"
    fresh = {"figures": {"burst_median_ms": 5.0}, "threads": 2, "steps": 40, "executed": {}, "set": None,
             "over": "10 min of stream", "versions": {"onnxruntime": "1.31.1"}}
    file.write_text(json.dumps(made | {"cases": {"sat-t-2s": fresh}}), "utf-8")
    run_results(monkeypatch, ends_with(MissingError("not installed")), "--only", "sat-t-2s")
    assert json.loads(file.read_bytes())["cases"] == {"sat-t-2s": fresh}
    assert "its earlier figures stay: not installed" in capsys.readouterr().out
    with pytest.raises(SystemExit, match="1"):
        run_results(monkeypatch, ends_with(DataError("broken")), "--only", "sat-t-2s")
    assert json.loads(file.read_bytes())["cases"] == {"sat-t-2s": {"why_not": "failed: broken"}}


def test_a_case_of_an_unknown_key_is_refused(tmp_path: Path) -> None:
    file = tmp_path / "cases.toml"
    file.write_text(FILE.read_text("utf-8").replace("streams = 8", "lanes = 8", 1), "utf-8")
    with pytest.raises(DataError, match="unknown key 'lanes'"):
        read_cases(file)


@pytest.mark.parametrize("cpu", CPUS)
def test_results_name_a_set_by_its_kind_and_not_by_its_path(cpu: str) -> None:
    cases = tables.read_results(tables.RESULTS / f"{cpu}.json")["cases"]
    assert {case.get("set") for case in cases.values()} <= {None, "synthetic", "esc50"}
