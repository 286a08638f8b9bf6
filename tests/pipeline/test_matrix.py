"""A matrix of bundles: which results stay, and the work of its cases."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from satexport.bundle.folder import MANIFEST, open_bundle
from satexport.errors import DataError, UsageError
from satexport.report.records import MatrixReport
from satexport.report.serialize import read_report
from tests.pipeline.matrices import NAMES, ROW, TWO, Runner, run
from tests.tiny import SAT_2S


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


@pytest.mark.parametrize("status", ["passed", "failed"])
def test_a_run_without_a_part_keeps_that_of_the_same_bundle(
        status: str, write: Callable[[str], Path], tmp_path: Path, runner: Runner) -> None:
    """A case that failed runs again, and one whose bundle is not there."""
    runner.status = status
    (before,) = run(write(ROW), tmp_path / "build").cases
    for options in ({"prove": False}, {"measure": False}):
        (tmp_path / "build" / SAT_2S / "onnx" / MANIFEST).unlink()
        (case,) = run(write(ROW), tmp_path / "build", **options).cases
        assert (case, case.status) == (before, status)
    assert len(runner.ran) == 3


@pytest.mark.parametrize("change", ["fingerprint", "bundle", "nothing before"])
def test_a_case_that_was_not_proven_has_not_passed(
        change: str, write: Callable[[str], Path], tmp_path: Path, runner: Runner) -> None:
    path = write(ROW)
    if change != "nothing before":
        run(path, tmp_path / "build")
    if change == "bundle":
        (tmp_path / "build" / SAT_2S / "onnx" / MANIFEST).unlink()
        runner.content = "of other bytes"
    elif change == "fingerprint":
        path = write(f"[settings]\nspinning = true\n{ROW}")
    report = run(path, tmp_path / "build", prove=False)
    (case,) = report.cases
    assert (case.parity, case.status, case.reason) == (None, "skipped", "not proven")
    assert report.verdict == "skipped"
    assert run(path, tmp_path / "build").cases[0].status == "passed"


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
