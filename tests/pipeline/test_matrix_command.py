"""What a run of a matrix says about cases that fail or cannot run, and what decides its exit code."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Callable
from pathlib import Path
from xml.etree import ElementTree

import pytest

from satexport.errors import MissingError, RunError, SatexportError
from satexport.files import only_command
from tests.commands.calls import call
from tests.pipeline.matrices import NAMES, ROW, TWO, Runner, run
from tests.tiny import SAT_2S


def test_a_case_that_fails_or_cannot_run_does_not_stop_the_others(
        write: Callable[[str], Path], tmp_path: Path, runner: Runner) -> None:
    runner.errors |= {NAMES[0]: MissingError("no runtime"), NAMES[1]: RunError("disk full"),
                      f"{SAT_2S}-odd": ZeroDivisionError("division by zero\nof a graph")}
    text = (TWO + '[[case]]\nmodel = "sat-t"\ncheckpoint = "gone.pt"\nlabel = "mine"\n'
            + ROW + 'label = "odd"\n' + ROW + 'label = "last"\n')
    report = run(write(text), tmp_path / "build")
    assert [(case.status, case.reason) for case in report.cases] == [
        ("skipped", "no runtime"), ("failed", "disk full"),
        ("skipped", f"needs the checkpoint {tmp_path / 'gone.pt'}, which is not there"),
        ("failed", "ZeroDivisionError: division by zero"), ("passed", "")]
    assert [case.is_error for case in report.cases] == [False, True, False, True, False]
    assert report.verdict == "failed"


def test_an_unexpected_error_before_the_work_stays_in_its_case_too(
        write: Callable[[str], Path], tmp_path: Path, runner: Runner,
        monkeypatch: pytest.MonkeyPatch) -> None:
    def damaged(*_: object) -> None:
        raise MemoryError

    monkeypatch.setattr("satexport.pipeline.matrix_case.load_checkpoint", damaged)
    report = run(write('[[case]]\nmodel = "sat-t"\n' + ROW), tmp_path / "build")
    assert [case.reason for case in report.cases] == ["MemoryError: no message", ""]


@pytest.mark.parametrize(("status", "error", "options", "code", "words"), [
    ("passed", None, [], 0, ""), ("failed", None, [], 1, f"gates failed: {SAT_2S}."),
    ("skipped", None, [], 0, ""), ("skipped", None, ["--require-data"], 1, "gates failed"),
    ("passed", RunError("disk full"), [], 5, f"ended with an error: {SAT_2S}. Run the command again"),
    ("passed", MissingError("no runtime"), [], 0, ""),
    ("passed", MissingError("no runtime"), ["--require-all"], 1, "not run, and --require-all is set: sat-t")])
def test_the_exit_code_says_whether_a_gate_failed(
        status: str, error: SatexportError | None, options: list[str], code: int, words: str,
        write: Callable[[str], Path], tmp_path: Path, runner: Runner) -> None:
    runner.status = status
    runner.errors = {SAT_2S: error} if error else {}
    result = call("matrix", write(ROW), "-o", tmp_path / "build", *options)
    assert (result.code, words in result.err) == (code, True), result.err
    state = "failed" if isinstance(error, RunError) else "skipped" if error else status
    assert f"{SAT_2S} {state}" in result.err


def test_the_report_is_json_a_page_and_junit(write: Callable[[str], Path], tmp_path: Path,
                                             runner: Runner) -> None:
    runner.errors = {NAMES[1]: MissingError("no runtime")}
    junit = tmp_path / "junit.xml"
    result = call("matrix", write(TWO), "-o", tmp_path / "build", "--junit", junit, "--json")
    assert result.code == 0, result.err
    assert json.loads(result.out) == json.loads((tmp_path / "build" / "matrix.json").read_bytes())
    page = (tmp_path / "build" / "matrix.md").read_text("utf-8")
    assert "| step in a burst, ms |" in page
    assert f"{NAMES[1]} skipped: no runtime" in page
    suite = ElementTree.parse(junit).getroot()
    assert [(test.get("name"), [part.tag for part in test]) for test in suite] == [
        (f"{NAMES[0]}: mAP kept", []), (f"{NAMES[0]}: mAP kept", []), (NAMES[1], ["skipped"])]


def test_a_list_shows_what_is_done_and_runs_nothing(write: Callable[[str], Path], tmp_path: Path,
                                                    runner: Runner) -> None:
    run(write(TWO), tmp_path / "build", NAMES[0])
    listed = call("matrix", write(TWO), "-o", tmp_path / "build", "--list", "--json")
    assert [(case["name"], case["state"]) for case in json.loads(listed.out)["cases"]] == [
        (NAMES[0], "done"), (NAMES[1], "to do")]
    assert runner.ran == NAMES[:1]
    assert f"{SAT_2S}/cpu-fp32" in call("matrix", write(TWO), "-o", tmp_path / "build", "--list").out


def test_a_list_fetches_no_weights_and_a_run_only_those_of_its_cases(
        write: Callable[[str], Path], tmp_path: Path, runner: Runner,
        monkeypatch: pytest.MonkeyPatch) -> None:
    def fetch(what: str, *_: object) -> None:
        raise RunError(f"there is no network for {what}")

    monkeypatch.setattr("satexport.pipeline.matrix_case.load_checkpoint", fetch)
    path = write(ROW + '[[case]]\nmodel = "sat-t"\n')
    assert "to do" in call("matrix", path, "-o", tmp_path / "build", "--list").out
    assert run(path, tmp_path / "build", SAT_2S).missing == ("sat-t-2s",)
    assert run(path, tmp_path / "build").cases[1].why_not == "there is no network for published"


def test_the_junit_file_does_not_replace_the_matrix(write: Callable[[str], Path], tmp_path: Path,
                                                    runner: Runner) -> None:
    path = write(ROW)
    result = call("matrix", path, "-o", tmp_path / "build", "--junit", path)
    assert (result.code, runner.ran) == (2, [])
    assert path.read_text("utf-8") == ROW


def test_only_the_chosen_cases_decide_and_the_others_that_failed_are_named(
        write: Callable[[str], Path], tmp_path: Path, runner: Runner) -> None:
    runner.status = "failed"
    assert call("matrix", write(TWO), "-o", tmp_path / "build", "--only", NAMES[1]).code == 1
    runner.status = "passed"
    result = call("matrix", write(TWO), "-o", tmp_path / "build", "--only", NAMES[0])
    assert result.code == 0, result.err
    assert f"Failed in an earlier run, and not judged, as --only leaves them out: {NAMES[1]}." in result.err
    assert call("matrix", write(TWO), "-o", tmp_path / "build", "--only", NAMES[1]).code == 0  # runs again


def test_a_case_that_was_not_proven_fails_if_all_gates_are_required(
        write: Callable[[str], Path], tmp_path: Path, runner: Runner) -> None:
    arguments = ("matrix", write(ROW), "-o", tmp_path / "build", "--no-prove")
    result = call(*arguments)
    assert (result.code, f"{SAT_2S} skipped: not proven" in result.out) == (0, True), result.err
    result = call(*arguments, "--require-data")
    assert (result.code, f"not proven, and --require-data is set: {SAT_2S}" in result.err) == (1, True)


def test_a_matrix_in_the_current_folder_is_the_same_as_by_its_path(
        write: Callable[[str], Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = write(ROW)
    monkeypatch.chdir(path.parent)
    by_name, by_path = (call("matrix", which, "-o", tmp_path / "out", "--list")
                        for which in (path.name, path))
    assert by_name.out.splitlines()[1:] == by_path.out.splitlines()[1:]  # the first one names the file
    assert "is not there" not in by_name.out


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no such lock")
def test_a_second_command_in_the_same_folder_is_refused(
        write: Callable[[str], Path], tmp_path: Path, runner: Runner) -> None:
    with only_command(tmp_path / "build"):
        result = call("matrix", write(ROW), "-o", tmp_path / "build")
        assert (result.code, runner.ran) == (2, [])
        assert "another command writes there" in result.err
        assert call("matrix", write(ROW), "-o", tmp_path / "build", "--list").code == 0
        assert call("matrix", write(ROW), "-o", tmp_path / "other").code == 0
    assert call("matrix", write(ROW), "-o", tmp_path / "build").code == 0


def test_a_folder_that_cannot_be_made_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "build").write_text("mine")
    with pytest.raises(RunError, match="cannot be written"), only_command(tmp_path / "build"):
        pass


def test_a_page_names_the_cases_that_were_measured_on_a_busy_machine(
        write: Callable[[str], Path], tmp_path: Path, runner: Runner) -> None:
    runner.busy_cores = {NAMES[0]: 1.25, NAMES[1]: 0.25}
    report = run(write(TWO), tmp_path / "build")
    assert [case.busy_cores for case in report.cases] == [1.25, 0.25]
    page = (tmp_path / "build" / "matrix.md").read_text("utf-8")
    cores = os.cpu_count()
    said = f"{NAMES[0]}: when its measurement began, other work kept 1.2 of {cores} cores busy"
    assert (said in page, page.count("cores busy")) == (True, 1)
