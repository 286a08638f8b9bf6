"""A matrix of bundles: rows that multiply, results that stay, and what a run says about cases that fail or
cannot run."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pytest

from satexport.bundle.contract import ANY
from satexport.bundle.folder import MANIFEST, open_bundle
from satexport.bundle.gates import Gate
from satexport.errors import DataError, MissingError, RunError, SatexportError, UsageError
from satexport.files import sha256_of
from satexport.pipeline import matrix as pipeline
from satexport.pipeline.matrix import plan_cases, run_matrix
from satexport.pipeline.matrix_case import CasePlan, MatrixOptions
from satexport.pipeline.matrix_file import read_matrix
from satexport.report.records import CaseResult, MatrixReport
from satexport.report.serialize import read_report
from tests.commands.calls import call
from tests.report.records import measure_report, parity_report
from tests.tiny import SAT, SAT_2S

ROW = f'[[case]]\nmodel = "{SAT}"\ncheckpoint = "random"\n'
GATE = Gate(name="mAP kept", status="passed", value=1.0, limit=0.99, note="1.0, at least 0.99")


@pytest.fixture
def write(tmp_path: Path) -> Callable[[str], Path]:
    """A function that writes a matrix."""
    def write(text: str) -> Path:
        path = tmp_path / "matrix.toml"
        path.write_text(text, "utf-8")
        return path
    return write


class Runner:
    """Takes the place of the work of a case; it may raise an error, or let a gate fail."""

    def __init__(self) -> None:
        self.ran: list[str] = []
        self.errors: dict[str, BaseException] = {}
        self.status = "passed"

    def __call__(self, plan: CasePlan, mark: str, *_: Any) -> CaseResult:
        self.ran.append(plan.name)
        if error := self.errors.get(plan.name):
            raise error
        plan.place.mkdir(parents=True, exist_ok=True)
        (plan.place / MANIFEST).write_text(plan.name, "utf-8")
        gate = Gate(**{**vars(GATE), "status": self.status})
        return CaseResult(name=plan.name, table=plan.case.table, fingerprint=mark, gates=(gate,),
                          bundle_sha256=sha256_of(plan.place / MANIFEST), parity=parity_report(),
                          measured=measure_report())


@pytest.fixture
def runner(monkeypatch: pytest.MonkeyPatch) -> Runner:
    runner = Runner()
    monkeypatch.setattr(pipeline, "run_case", runner)
    return runner


def run(path: Path, output: Path, *only: str, **options: bool) -> MatrixReport:
    return run_matrix(read_matrix(path), output, MatrixOptions(**options), only)


# Rows.

def test_lists_in_a_row_multiply_and_each_case_has_a_name_and_a_place(write: Callable[[str], Path]) -> None:
    path = write('[[case]]\nmodel = ["sat-t", "vit-t"]\ndelay = [1, 2]\ncheckpoint = "random"\n'
                 '[[case]]\nmodel = "sat-t"\ncheckpoint = "demo"\ntarget = ["onnx", "cpu-int8"]\n'
                 'label = "demo"\nstreams = "dynamic"\ncalibration = "esc50"\n')
    plans = plan_cases(read_matrix(path), Path("build"))
    assert {name: plan.place.as_posix() for name, plan in plans.items()} == {
        "sat-t-1s": "build/sat-t-1s/onnx", "sat-t-2s": "build/sat-t-2s/onnx",
        "vit-t-1s": "build/vit-t-1s/onnx", "vit-t-2s": "build/vit-t-2s/onnx",
        "sat-t-2s-demo-dynamic-esc50": "build/demo-esc50/sat-t-2s/onnx-dynamic",
        "sat-t-2s-demo-int8-dynamic-esc50": "build/demo-esc50/sat-t-2s/cpu-int8-dynamic"}
    assert {plan.options.streams for name, plan in plans.items() if "dynamic" in name} == {ANY}


def test_paths_are_relative_to_the_matrix(write: Callable[[str], Path], tmp_path: Path) -> None:
    (case,) = read_matrix(write('[[case]]\nmodel = "sat-t"\ncheckpoint = "mine.pt"\ndata = "clips"\n'
                                'target = "board.toml"')).cases
    assert (case.weights, case.labelled_set, case.target_named(case.target)) == tuple(
        str(tmp_path / name) for name in ("mine.pt", "clips", "board.toml"))


@pytest.mark.parametrize(("text", "error", "message"), [
    ("", DataError, r"has 0 cases, expected 1 to 1000"),
    ("case = 1", DataError, r"case is 1, expected tables \[\[case\]\]"),
    ("[[row]]", DataError, r"unknown key 'row'; expected a table \[settings\], and rows \[\[case\]\]"),
    ("settings = 1", DataError, r"settings is 1, expected a table"),
    ("[settings]\nminutes = 0\n" + ROW, DataError, r"minutes is 0, expected not 0"),
    ("[settings]\nsteps = 1\n" + ROW, DataError, r"steps is 1, expected 2 to 10000"),
    ("[[case]]\ndelay = 1", DataError, r"the key 'model' is missing in \[case\]"),
    ("[[table]]", DataError, r"the key 'title' is missing in \[table\]"),
    ("[[case]]\nmodel = []", DataError, r"model is \[\], expected at least one value"),
    ("[[case]]\nmodel = 7", DataError, r"model is 7, expected a string or a list of strings"),
    (ROW + "models = 1", DataError, r"unknown key 'models'; the keys are model, target, delay"),
    (ROW + "delay = [2, 2]", DataError, r"delay is \[2, 2\], expected each value once"),
    (ROW + "delay = -1", DataError, r"delay is -1, expected whole seconds"),
    (ROW + 'cache = "none"', DataError, r"cache is 'none', expected kv or hidden"),
    (ROW + 'streams = "many"', DataError, r"streams is 'many', expected a number from 1, or \"dynamic\""),
    (ROW + "streams = 0", DataError, r"streams is 0, expected a number from 1"),
    (ROW + "threads = 257", DataError, r"threads is 257, expected 1 to 256"),
    (ROW + "minutes = 0.01", DataError, r"minutes is 0.01, expected 0.1 to 240"),
    (ROW + 'label = "../x"', DataError, r"label is '../x', expected letters, digits"),
    (ROW + f"delay = {list(range(1, 1200))}".replace(", ", ",\n"), DataError, r"has 1199 cases, expected"),
    (ROW + 'embedding = "x"', UsageError, rf"model {SAT}, target onnx: .* has no embedding 'x'"),
    (ROW + "window = 10", UsageError, "keeps a cache of what it heard before"),
    (ROW + 'target = "toaster"', UsageError, "target toaster: there is no target 'toaster'"),
    (ROW * 2, DataError, rf"two cases are called {SAT_2S}, or write .*Give one of the rows a `label`")])
def test_a_matrix_that_cannot_be_used_is_refused_before_the_work(
        text: str, error: type[SatexportError], message: str, write: Callable[[str], Path],
        tmp_path: Path, runner: Runner) -> None:
    path = write(text)
    with pytest.raises(error, match=message) as caught:
        run(path, tmp_path / "build")
    assert str(path) in str(caught.value)
    assert runner.ran == []


def test_a_matrix_that_does_not_exist_is_wrong_use(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"no such file; expected a matrix: a TOML file with rows \[\[case"):
        read_matrix(tmp_path / "gone.toml")


# Results that stay.

TWO = ROW + 'target = ["onnx", "cpu-fp32"]\n'
NAMES = [SAT_2S, f"{SAT_2S}-fp32"]


def test_a_case_that_has_a_result_is_not_run_again(write: Callable[[str], Path], tmp_path: Path,
                                                   runner: Runner) -> None:
    first = run(write(TWO), tmp_path / "build")
    assert runner.ran == NAMES
    assert run(write(TWO), tmp_path / "build") == first
    assert runner.ran == NAMES


@pytest.mark.parametrize(
    "change", ["row", "settings", "sources", "machine", "bundle", "failed", "unmeasured"])
def test_a_case_runs_again_if_what_its_result_depends_on_has_changed(
        change: str, write: Callable[[str], Path], tmp_path: Path, runner: Runner,
        monkeypatch: pytest.MonkeyPatch) -> None:
    text = ROW
    if change == "failed":
        runner.status = "failed"
    run(write(text), tmp_path / "build", measure=change != "unmeasured")
    if change == "row":
        text += "cache = \"kv\"\nminutes = 1\n"
    elif change == "settings":
        text = "[settings]\nspinning = true\n" + text
    elif change == "bundle":
        (tmp_path / "build" / SAT_2S / "onnx" / MANIFEST).unlink()
    elif change in ("sources", "machine"):
        name = {"sources": "sources_sha256", "machine": "origin"}[change]
        monkeypatch.setattr(f"satexport.pipeline.matrix_case.{name}", lambda: "another")
    elif change == "unmeasured":
        path = tmp_path / "build" / "matrix.json"
        content = json.loads(path.read_bytes())
        del content["cases"][0]["measured"]
        path.write_text(json.dumps(content), "utf-8")
    run(write(text), tmp_path / "build")
    assert runner.ran == [SAT_2S, SAT_2S]


def test_an_interrupt_loses_no_case_that_was_finished(write: Callable[[str], Path], tmp_path: Path,
                                                      runner: Runner) -> None:
    runner.errors[NAMES[1]] = KeyboardInterrupt()
    with pytest.raises(KeyboardInterrupt):
        run(write(TWO), tmp_path / "build")
    stored = read_report(tmp_path / "build" / "matrix.json")
    assert isinstance(stored, MatrixReport)
    assert ([case.name for case in stored.cases], stored.missing) == (NAMES[:1], (NAMES[1],))
    runner.errors.clear()
    run(write(TWO), tmp_path / "build")
    assert runner.ran == [*NAMES, NAMES[1]]


def test_only_some_cases_run_and_results_of_an_earlier_row_are_named(
        write: Callable[[str], Path], tmp_path: Path, runner: Runner) -> None:
    run(write(TWO), tmp_path / "build")
    report = run(write("[settings]\nsteps = 3\n" + TWO), tmp_path / "build", "*-fp32")
    assert runner.ran == [*NAMES, NAMES[1]]
    assert report.outdated == (NAMES[0],)
    with pytest.raises(UsageError, match=r"--only x: .* has no case of this name.*such as sat-t"):
        run(write(TWO), tmp_path / "build", "x")


def test_another_file_in_the_place_of_the_report_is_refused(write: Callable[[str], Path], tmp_path: Path,
                                                            runner: Runner) -> None:
    place = tmp_path / "build" / "matrix.json"
    place.parent.mkdir()
    for content in ("{}", "no JSON"):
        place.write_text(content, "utf-8")
        with pytest.raises(DataError, match=r"matrix\.json: is not"):
            run(write(ROW), tmp_path / "build")
        assert place.read_text("utf-8") == content
    place.write_text('{"kind": "matrix", "schema": 1}', "utf-8")  # of an older version: it begins again
    assert len(run(write(ROW), tmp_path / "build").cases) == 1


# What a run says.

def test_a_case_that_fails_or_cannot_run_does_not_stop_the_others(
        write: Callable[[str], Path], tmp_path: Path, runner: Runner) -> None:
    runner.errors |= {NAMES[0]: MissingError("no runtime"), NAMES[1]: RunError("disk full")}
    text = (TWO + '[[case]]\nmodel = "sat-t"\ncheckpoint = "gone.pt"\nlabel = "mine"\n'
            + ROW + 'label = "last"\n')
    report = run(write(text), tmp_path / "build")
    assert [(case.status, case.reason) for case in report.cases] == [
        ("skipped", "no runtime"), ("failed", "disk full"),
        ("skipped", f"needs the checkpoint {tmp_path / 'gone.pt'}, which is not there"), ("passed", "")]
    assert report.verdict == "failed"


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
        (f"{NAMES[0]}: mAP kept", []), (NAMES[1], ["skipped"])]


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


# The work itself.

def test_bundles_are_made_and_proven_at_their_places(write: Callable[[str], Path], tmp_path: Path) -> None:
    text = ("[settings]\nminutes = 0.1\n" + ROW
            + '[[case]]\nmodel = "sat-t"\ncheckpoint = "random"\nlabels = "no.txt"\n')
    report = run(write(text), tmp_path / "build", measure=False)
    made, missing = report.cases
    assert made.bundle == f"{SAT_2S}/onnx"
    bundle = open_bundle(tmp_path / "build" / made.bundle)
    assert made.bundle_sha256 == bundle.sha256
    assert made.parity
    assert made.parity.differences["0.1 min of stream"].largest < 1e-4
    assert {path.name for path in bundle.reports.glob("*.json")} == {"export.json", "parity.json"}
    assert (made.status, made.reason) == ("skipped", "mAP kept: random weights: no mAP is claimed")
    assert "needs the labels" in missing.why_not


@pytest.mark.long
def test_a_matrix_is_measured_and_several_streams_are_compared_with_one(
        write: Callable[[str], Path], tmp_path: Path) -> None:
    text = ("[settings]\nminutes = 0.1\nsteps = 2\nlive = true\n" + TWO + ROW + "streams = [3]\n"
            + ROW + 'streams = "dynamic"\n')
    report = run(write(text), tmp_path / "build")
    assert all(case.entry and case.live and not case.why_not for case in report.cases)
    three = next(case for case in report.cases if case.name.endswith("-x3"))
    assert three.entry
    assert three.entry.times_one_stream
