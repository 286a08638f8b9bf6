"""Run a matrix: make, prove and measure its cases one after the other, and keep each result as soon as it is
there.

The report, `NAME.json` in the output folder for a matrix NAME.toml, is also the memory of earlier runs: a
case that has a valid result there is not run again. It is written after each case, and a page next to it.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from fnmatch import fnmatchcase
from pathlib import Path
from typing import NamedTuple

from satexport.bundle.places import check_outside
from satexport.errors import DataError, MissingError, SatexportError, UsageError
from satexport.files import check_writable, only_command, write_json, write_text
from satexport.pipeline.matrix_case import (
    CasePlan,
    Exports,
    MatrixOptions,
    fingerprint,
    is_done,
    plan_case,
    run_case,
)
from satexport.pipeline.matrix_file import Matrix
from satexport.report.blocks import describe_stored
from satexport.report.markdown import to_markdown
from satexport.report.records import CaseResult, MatrixReport
from satexport.report.serialize import SCHEMA, read_report, read_schema, to_json

Tell = Callable[[str], None]


class State(NamedTuple):
    """Whether a case has a valid result, before a run."""

    plan: CasePlan
    mark: str                   # fingerprint; "" if it could not be found
    error: Exception | None     # why not
    is_done: bool


def plan_cases(matrix: Matrix, output: Path) -> dict[str, CasePlan]:
    """Return the plan of each case by name, in the order of the matrix. Raises what `plan_case` does, and
    `DataError` for two cases of the same name or place."""
    plans: dict[str, CasePlan] = {}
    for case in matrix.cases:
        plan = plan_case(case, output)
        if plan.name in plans or any(plan.place == other.place for other in plans.values()):
            raise DataError(f"{matrix.path}: two cases are called {plan.name}, or write the bundle "
                            f"{plan.place}; expected a name and a place for each. Give one of the rows a "
                            "`label`.")
        plans[plan.name] = plan
    return plans


def select_cases(plans: Mapping[str, CasePlan], patterns: Sequence[str], matrix: Matrix) -> list[str]:
    """Return the names that any of the patterns matches, all without a pattern. Raises `UsageError` for a
    pattern that matches none."""
    for pattern in patterns:
        if not any(fnmatchcase(name, pattern) for name in plans):
            raise UsageError(f"--only {pattern}: {matrix.path} has no case of this name; `--list` shows the "
                             f"{len(plans)} names, such as {next(iter(plans))}.")
    return [name for name in plans
            if not patterns or any(fnmatchcase(name, pattern) for pattern in patterns)]


def report_path(matrix: Matrix, output: Path) -> Path:
    """Return the path of the report, whose page is next to it."""
    return output / f"{matrix.path.stem}.json"


def read_results(path: Path) -> dict[str, CaseResult]:
    """Return the results in a report by name; {} if there is no report or an older version wrote it. Raises
    `DataError` if the file is something else."""
    if not os.path.exists(path):
        return {}
    if read_schema(path, "matrix") < SCHEMA:
        return {}
    report = read_report(path)
    if not isinstance(report, MatrixReport):
        raise DataError(f"{path}: is another report than that of a matrix. Move it away, or choose another "
                        "--output.")
    return {result.name: result for result in report.cases}


def find_states(plans: Mapping[str, CasePlan], known: Mapping[str, CaseResult], matrix: Matrix,
                options: MatrixOptions, chosen: Sequence[str] = ()) -> dict[str, State]:
    """Return for each case whether it has a valid result. The fingerprint of a case that has no result, which
    may need a download, is found only if it is one of the `chosen`."""
    states = {}
    for name, plan in plans.items():
        mark, error = "", None
        try:
            if not plan.why_not and (name in known or name in chosen):
                mark = fingerprint(plan, matrix.settings)
        except Exception as found:  # also one that satexport does not expect stays in its case
            error = found
        states[name] = State(plan, mark, error, is_done(known.get(name), mark, plan, options))
    return states


def run_matrix(matrix: Matrix, output: Path, options: MatrixOptions, only: Sequence[str] = (),
               tell: Tell = lambda _: None) -> MatrixReport:
    """Run the cases that have no valid result, and return the report on all of them. `tell` is called with
    what happens. An error of a case is a part of its result, and the next case runs.

    Raises `UsageError` or `DataError` for a matrix or an output folder that cannot be used, also because
    another matrix runs in it, and `RunError` if the report cannot be written.
    """
    plans = plan_cases(matrix, output)
    chosen, path = select_cases(plans, only, matrix), report_path(matrix, output)
    for place in (path, *(plan.place for plan in plans.values())):
        check_outside(place)
    check_writable(output)
    with only_command(output), Exports() as exports:
        known = read_results(path)
        states = find_states(plans, known, matrix, options, chosen)
        for number, name in enumerate(chosen, start=1):
            state = states[name]
            if state.is_done:
                continue
            tell(f"[{number}/{len(chosen)}] {name}")
            known[name] = result = _run(state, known.get(name), matrix, options, exports, output)
            states[name] = state._replace(is_done=True)
            tell(f"[{number}/{len(chosen)}] {name} {result.status}"
                 f"{f': {result.reason}' if result.reason else ''}")
            _write(_report(matrix, known, states), path)
        report = _report(matrix, known, states)
        _write(report, path)
    return report


def _run(state: State, earlier: CaseResult | None, matrix: Matrix, options: MatrixOptions, exports: Exports,
         output: Path) -> CaseResult:
    """Run a case and return its result, also if it ends with an error; with the parts of an earlier result of
    the same bundle that were left out now."""
    plan = state.plan
    if state.error or plan.why_not:
        return _unrun(plan, state.mark, state.error or plan.why_not)
    try:
        result = run_case(plan, state.mark, matrix.settings, options, exports)
    except Exception as error:  # also one that satexport does not expect stays in its case
        return _unrun(plan, state.mark, error)
    return replace(_keep_parts(result, earlier), bundle=Path(os.path.relpath(plan.place, output)).as_posix())


def _unrun(plan: CasePlan, mark: str, error: Exception | str) -> CaseResult:
    """Return the result of a case that was not run: an error, or why this machine cannot run it."""
    why_not = error if isinstance(error, str) else _first_line(error)
    return CaseResult(name=plan.name, table=plan.case.table, fingerprint=mark, why_not=why_not,
                      is_error=isinstance(error, Exception) and not isinstance(error, MissingError))


def _first_line(error: Exception) -> str:
    """Return the message of an error, with the name of its type if it is no error of satexport."""
    if isinstance(error, SatexportError):
        return error.message
    return f"{type(error).__name__}: {(str(error).strip().splitlines() or ['no message'])[0]}"


def _keep_parts(result: CaseResult, earlier: CaseResult | None) -> CaseResult:
    """Return a result with the proof and the measurement of an earlier one, if it has none of its own and the
    earlier one is of the same bundle."""
    if not earlier or (earlier.fingerprint, earlier.bundle_sha256) != (result.fingerprint,
                                                                       result.bundle_sha256):
        return result
    proven, measured = (result if result.parity else earlier), (result if result.measured else earlier)
    return replace(result, gates=(*proven.proof_gates, *measured.budget_gates), parity=proven.parity,
                   measured=measured.measured, live=measured.live, busy_cores=measured.busy_cores)


def _report(matrix: Matrix, known: Mapping[str, CaseResult], states: Mapping[str, State]) -> MatrixReport:
    """Return the report on the cases of the matrix; results of cases that it no longer has are left out."""
    titles = {state.plan.name: state.plan.case.table for state in states.values()}
    cases = [replace(known[name], table=titles[name]) for name in states if name in known]
    return MatrixReport(
        matrix=matrix.path.name, cases=tuple(cases),
        missing=tuple(name for name in states if name not in known),
        outdated=tuple(case.name for case in cases
                       if not case.why_not and case.fingerprint != states[case.name].mark),
        tables={table.title: table.note for table in matrix.tables})


def _write(report: MatrixReport, path: Path) -> None:
    write_json(path, to_json(report))
    write_text(path.with_suffix(".md"), to_markdown(describe_stored([report])))
