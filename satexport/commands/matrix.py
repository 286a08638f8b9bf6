"""`satexport matrix`: make, prove and measure a matrix of bundles."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import click

from satexport.commands.console import ignore_closed_pipe, print_json
from satexport.commands.options import Seconds, WholeNumber, json_option
from satexport.errors import GateError, RunError, UsageError, requires_extra
from satexport.terminal import note

if TYPE_CHECKING:
    from satexport.pipeline.matrix import State
    from satexport.pipeline.matrix_case import MatrixOptions
    from satexport.pipeline.matrix_file import Matrix
    from satexport.report.records import CaseResult, MatrixReport

SUMMARY = ("burst_median_ms", "times_eager_burst", "weights_mb", "resident_mb", "largest", "map_kept")


@click.command("matrix")
@click.argument("matrix", type=click.Path(path_type=Path), metavar="MATRIX.toml")
@click.option("-o", "--output", type=click.Path(path_type=Path), default=Path("build"), show_default=True,
              metavar="DIR", help="Folder for the bundles, and for the report: DIR/MATRIX.json and .md.")
@click.option("--only", multiple=True, metavar="NAME",
              help="Run only the case of this name, or those that a pattern such as 'sat-t-*' matches. "
                   "May be repeated.")
@click.option("--list", "is_list", is_flag=True, help="List the cases, and whether they have a valid result.")
@click.option("--prove/--no-prove", default=True, show_default=True,
              help="Compare each bundle with PyTorch, and judge its gates.")
@click.option("--measure/--no-measure", "measured", default=True, show_default=True,
              help="Measure each bundle in turns with PyTorch eager.")
@click.option("--minutes", type=Seconds(0.1, 240), metavar="MINUTES",
              help="Minutes of audio over which to compare scores, instead of those in the matrix.")
@click.option("--threads", type=WholeNumber(1, 256), metavar="N",
              help="Threads of the runtime, instead of those in the matrix.")
@click.option("--require-all", is_flag=True, help="Fail if this machine cannot run a case.")
@click.option("--require-data", is_flag=True, help="Fail if a gate could not be judged.")
@click.option("--junit", "junit_file", type=click.Path(path_type=Path), metavar="FILE",
              help="Also write the gates of all cases to this file as JUnit XML.")
@json_option
def matrix_command(matrix: Path, output: Path, only: tuple[str, ...], is_list: bool, prove: bool,
                   measured: bool, minutes: float | None, threads: int | None, require_all: bool,
                   require_data: bool, junit_file: Path | None, as_json: bool) -> None:
    """Make, prove and measure many bundles: models by targets by options.

    Runs one case after the other and keeps each result. If the command is interrupted, or runs again, a case
    whose result is there is not run again, unless its row, its weights, satexport or the machine changed, or
    it failed. A case that this machine cannot run is skipped, with the reason.

    \b
    Examples:
      satexport matrix examples/ci/matrix.toml
      satexport matrix examples/ci/matrix.toml --list
      satexport matrix examples/ci/matrix.toml --only 'sat-t-*' --no-measure
      satexport matrix examples/ci/matrix.toml --require-all --junit matrix.xml
    """
    from satexport.bundle.gates import fail_skipped

    with requires_extra("export"):
        from satexport.pipeline.matrix import plan_cases, run_matrix, select_cases
        from satexport.pipeline.matrix_case import MatrixOptions
        from satexport.pipeline.matrix_file import override, read_matrix

    rows = override(read_matrix(matrix), minutes, threads)
    options = MatrixOptions(prove=prove, measure=measured)
    if is_list:
        _list(rows, output, options, only, as_json)
        return
    if junit_file:
        _check_junit(junit_file, rows, output)
    chosen = select_cases(plan_cases(rows, output), only, rows)
    report = run_matrix(rows, output, options, only, note)
    if require_data:
        report = replace(report, cases=tuple(replace(case, gates=fail_skipped(case.gates))
                                             for case in report.cases))
    if junit_file:
        _write_junit(junit_file, report)
    _print(report, output / f"{matrix.stem}.md", as_json)
    _note_others(report, chosen)
    _end([case for case in report.cases if case.name in chosen], require_all, require_data)


def _list(matrix: Matrix, output: Path, options: MatrixOptions, only: Sequence[str], as_json: bool) -> None:
    """Print the cases, the places of their bundles, and whether they have a valid result."""
    from satexport.pipeline.matrix import find_states, plan_cases, read_results, report_path, select_cases
    from satexport.report.table import Table
    from satexport.report.terminal import print_table

    plans = plan_cases(matrix, output)
    names = select_cases(plans, only, matrix)
    states = find_states({name: plans[name] for name in names}, read_results(report_path(matrix, output)),
                         matrix, options)
    with ignore_closed_pipe():
        if as_json:
            print_json({"cases": [{"name": name, "bundle": str(state.plan.place), "state": _state(state)}
                                  for name, state in states.items()]})
        else:
            print_table(Table(title=str(matrix.path), head=["case", "bundle", "state"], texts=3, rows=[
                [name, str(state.plan.place), _state(state)] for name, state in states.items()]))


def _state(state: State) -> str:
    return "done" if state.is_done else state.plan.why_not or "to do"


def _check_junit(file: Path, matrix: Matrix, output: Path) -> None:
    """Raise an error if the JUnit file cannot be written, or is another file of the command."""
    from satexport.bundle.places import check_places
    from satexport.pipeline.matrix import report_path

    if file.exists() and file.samefile(matrix.path):
        raise UsageError(f"--junit {file} is the matrix; expected another file.")
    report = report_path(matrix, output)
    check_places([("report", report), ("report's page", report.with_suffix(".md")), ("JUnit report", file)])


def _write_junit(file: Path, report: MatrixReport) -> None:
    """Write a test for each gate of each case, and one for each case that was not run or has no gate."""
    from satexport.files import write_text
    from satexport.report.junit import junit

    tests = []
    for case in report.cases:
        tests += [(f"{case.name}: {gate.name}", gate.status, gate.note) for gate in case.gates]
        if not case.gates:
            tests.append((case.name, case.status, case.reason))
    write_text(file, junit(f"satexport.matrix.{Path(report.matrix).stem}", tests))


def _print(report: MatrixReport, page: Path, as_json: bool) -> None:
    from satexport.report.blocks import describe_matrix
    from satexport.report.figures import CASE_FIGURES
    from satexport.report.serialize import to_json
    from satexport.report.terminal import print_blocks
    from satexport.terminal import say

    with ignore_closed_pipe():
        if as_json:
            print_json(to_json(report))
        else:
            print_blocks(describe_matrix(report, [figure for key in SUMMARY for figure in CASE_FIGURES
                                                  if figure.key == key]))
            say(f"Report: {page}")
    note(report.warning)


def _note_others(report: MatrixReport, chosen: Sequence[str]) -> None:
    """Say which cases failed in an earlier run that --only left out of this one."""
    others = [case.name for case in report.cases if case.name not in chosen and case.status == "failed"]
    note(f"Failed in an earlier run, and not judged, as --only leaves them out: {', '.join(others)}."
         if others else None)


def _end(cases: Sequence[CaseResult], require_all: bool, require_data: bool) -> None:
    """Raise `GateError` if a gate of these cases failed, or one did not run or was not proven and that is
    required; `RunError` if a case ended with an error."""
    failed = [case.name for case in cases if case.status == "failed" and not case.is_error]
    errors = [case.name for case in cases if case.is_error]
    skipped = [case.name for case in cases if case.why_not and not case.is_error and require_all]
    unproven = [case.name for case in cases if not (case.why_not or case.parity) and require_data]
    parts = [f"{what}: {', '.join(names)}" for what, names in (
        ("gates failed", failed), ("ended with an error", errors),
        ("not run, and --require-all is set", skipped),
        ("not proven, and --require-data is set", unproven)) if names]
    if failed or skipped or unproven:
        raise GateError(f"{'; '.join(parts)}.")
    if errors:
        raise RunError(f"{'; '.join(parts)}. Run the command again once the cause is mended: the other "
                       "results stay.")
