"""What a page is about: each path that a user names, with the results of its bundle as a case, as a matrix
has them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from satexport.bundle.contract import ANY
from satexport.bundle.folder import Bundle, bundle_path
from satexport.bundle.gates import Gate
from satexport.measure.records import MeasureReport
from satexport.parity.records import ParityReport
from satexport.report.page.parts import Mark
from satexport.report.paper_records import PaperReport, ScoresReport
from satexport.report.records import BuildReport, CaseResult, MatrixReport, Report, kind_of
from satexport.report.sources import Source


@dataclass(frozen=True, kw_only=True)
class Subject:
    """A section of the page."""

    name: str
    source: Source
    cases: tuple[tuple[Mark, CaseResult], ...]   # one for a bundle; none: no figures to compare
    strangers: tuple[str, ...]                   # kinds of reports that are about another bundle

    @property
    def gates(self) -> list[Gate]:
        return [gate for _, case in self.cases for gate in case.gates]

    @property
    def status(self) -> str:
        """"failed" or else "skipped" if any case is, as `CaseResult.status` says; "passed" if all passed; ""
        without a case."""
        return next(status for status in ("failed", "skipped", "passed", "") if status in self.statuses)

    @property
    def statuses(self) -> list[str]:
        """The status of each case; only "" without a case."""
        return [case.status for _, case in self.cases] or [""]

    @property
    def mark(self) -> Mark | None:
        """The mark of its only case; None if it has none, or several."""
        return self.cases[0][0] if len(self.cases) == 1 else None


def find_subjects(sources: Sequence[Source]) -> list[Subject]:
    """Return the subjects of a page, with the marks of all their cases counted from 1."""
    names = _names(sources)
    subjects: list[Subject] = []
    number = 0
    for name, source in zip(names, sources, strict=True):
        cases = []
        for case in _find_cases(name, source):
            number += 1
            cases.append((Mark(number=number, shape=number - 1), case))
        strangers = [kind_of(report) for report in source.reports if is_stranger(report, source.bundle)]
        subjects.append(Subject(name=name, source=source, cases=tuple(cases), strangers=tuple(strangers)))
    return subjects


def is_stranger(report: Report, bundle: Bundle | None) -> bool:
    """Return whether a report says that it is about another bundle than the one that it lies in."""
    if bundle is None:
        return False
    if isinstance(report, ParityReport | BuildReport):
        return report.bundle_sha256 != bundle.sha256
    return isinstance(report, MeasureReport) and bundle.sha256 not in {
        entry.bundle_sha256 for entry in report.bundles}


def _names(sources: Sequence[Source]) -> list[str]:
    """Return a name for each source: of a bundle its variant and target, whatever its folder is called. Two
    of the same name are told apart by their paths."""
    names = [_name(source) for source in sources]
    count = Counter(names)
    return [f"{name} ({source.path})" if count[name] > 1 else name
            for name, source in zip(names, sources, strict=True)]


def _name(source: Source) -> str:
    if source.bundle:
        return bundle_path(Path(), source.bundle.contract, source.bundle.target).as_posix()
    for report in source.reports[:1]:
        if isinstance(report, ParityReport):
            return f"{report.variant}/{report.target}"
        if isinstance(report, MatrixReport):
            return report.matrix
        if isinstance(report, PaperReport | ScoresReport):
            return report.title
        if isinstance(report, MeasureReport) and len(report.bundles) == 1:
            return report.bundles[0].name
    return source.path.name or str(source.path)


def _find_cases(name: str, source: Source) -> Iterator[CaseResult]:
    """Yield the results in the reports of a source. Parity and measure reports in one place are about one
    bundle, unless the measure report has several."""
    reports = [report for report in source.reports if not is_stranger(report, source.bundle)]
    for report in reports:
        if isinstance(report, MatrixReport):
            yield from report.cases
        elif isinstance(report, BuildReport):
            yield _engine_case(name, report)
    parity = _main_parity([report for report in reports if isinstance(report, ParityReport)])
    measured = [one for report in reports if isinstance(report, MeasureReport)
                for one in _split(report, source.bundle)]
    if len(measured) > 1:
        yield from (_case(one.bundles[0].name, None, one) for one in measured)
        measured = []
    if parity or measured:
        yield _case(name, parity, measured[0] if measured else None)


def _case(name: str, parity: ParityReport | None, measured: MeasureReport | None) -> CaseResult:
    gates = (*(parity.gates if parity else ()), *(measured.gates if measured else ()))
    found = parity.bundle_sha256 if parity else measured.bundles[0].bundle_sha256 if measured else None
    return CaseResult(name=name, table="", fingerprint="", bundle_sha256=found, gates=gates, parity=parity,
                      measured=measured)


def _engine_case(name: str, report: BuildReport) -> CaseResult:
    """The best engine of a board."""
    best = report.engines[0]
    measured = MeasureReport(bundles=(best.measure,), eager=(), notes=(), settings=report.settings,
                             origin=report.origin) if best.measure else None
    return CaseResult(name=f"{name}, {best.precision} engine", table="", fingerprint="", gates=best.gates,
                      bundle_sha256=report.bundle_sha256, parity=best.parity, measured=measured)


def _main_parity(reports: Sequence[ParityReport]) -> ParityReport | None:
    """The report that tells most about a bundle: of the bundle itself, with a labelled set, over a stream."""
    return max(reports, key=lambda report: (report.graph is None, report.labelled_set is not None,
                                            report.curve is not None), default=None)


def _split(report: MeasureReport, bundle: Bundle | None) -> list[MeasureReport]:
    """A report for each of its bundles, or only for the given one."""
    return [report.select_bundle(number) for number, entry in enumerate(report.bundles)
            if bundle is None or entry.bundle_sha256 == bundle.sha256]


def repeated_from(report: ParityReport, bundle: Bundle | None) -> int | None:
    """Return the chunk of a parity curve from which the stream repeats its beginning; None if it does not, or
    if the report does not tell."""
    if report.curve is None:
        return None
    if bundle and report.drift:
        return len(report.curve) - report.drift.chunks - bundle.contract.memory_steps
    streams = 1 if bundle is None or bundle.contract.options.streams == ANY else (
        bundle.contract.options.streams)
    length = next(iter(report.differences.values())).chunks // streams
    return length if 0 < length < len(report.curve) else None
