"""A matrix of small models, and what takes the place of the work of its cases."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from satexport.bundle.folder import MANIFEST
from satexport.bundle.gates import Gate
from satexport.files import sha256_of
from satexport.pipeline.matrix import run_matrix
from satexport.pipeline.matrix_case import CasePlan, MatrixOptions
from satexport.pipeline.matrix_file import Settings, read_matrix
from satexport.report.records import CaseResult, MatrixReport
from tests.report.records import measure_report, parity_report
from tests.tiny import SAT, SAT_2S

ROW = f'[[case]]\nmodel = "{SAT}"\ncheckpoint = "random"\n'
TWO = ROW + 'target = ["onnx", "cpu-fp32"]\n'
NAMES = [SAT_2S, f"{SAT_2S}-fp32"]
GATE = Gate(name="mAP kept", status="passed", value=1.0, limit=0.99, note="1.0, at least 0.99")


class Runner:
    """Takes the place of the work of a case; it may raise an error, or let a gate fail."""

    def __init__(self) -> None:
        self.ran: list[str] = []
        self.errors: dict[str, BaseException] = {}
        self.status = "passed"
        self.content = ""   # of the bundles
        self.busy_cores: dict[str, float] = {}

    def __call__(self, plan: CasePlan, mark: str, _: Settings, options: MatrixOptions,
                 *__: Any) -> CaseResult:
        self.ran.append(plan.name)
        if error := self.errors.get(plan.name):
            raise error
        plan.place.mkdir(parents=True, exist_ok=True)
        (plan.place / MANIFEST).write_text(plan.name + self.content, "utf-8")
        measured = measure_report() if options.measure else None
        gates = (Gate(**{**vars(GATE), "status": self.status}),) if options.prove else ()
        return CaseResult(name=plan.name, table=plan.case.table, fingerprint=mark,
                          gates=(*gates, *(measured.gates if measured else ())),
                          bundle_sha256=sha256_of(plan.place / MANIFEST),
                          parity=parity_report() if options.prove else None, measured=measured,
                          busy_cores=self.busy_cores.get(plan.name))


def run(path: Path, output: Path, *only: str, **options: bool) -> MatrixReport:
    return run_matrix(read_matrix(path), output, MatrixOptions(**options), only)
