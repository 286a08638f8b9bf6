"""The page itself: what it is made of, and its text by a template. Needs jinja2."""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from importlib.resources import files

from satexport.report.blocks import describe_streaming
from satexport.report.figures import KIND_FIGURES
from satexport.report.page.comparison import comparison_parts
from satexport.report.page.identity import identity_facts, provenance_parts
from satexport.report.page.parts import Chart, Facts, Grid, Mark, Pair, Part, Text
from satexport.report.page.sections import SECTIONS, report_parts
from satexport.report.page.subjects import Subject, find_subjects
from satexport.report.page.svg import SHAPES
from satexport.report.records import Report, kind_of
from satexport.report.sources import Source
from satexport.report.terms import TERMS
from satexport.terminal import printable
from satexport.version import __version__

TEMPLATE, STYLE, SCRIPT = "page.html.j2", "page.css", "page.js"   # beside this module
NO_GATES = "no gates"


@dataclass(frozen=True, kw_only=True)
class Section:
    """A bundle, or what else a path holds."""

    id: str
    name: str
    mark: Mark | None
    status: str
    word: str
    parts: Sequence[Part]


@dataclass(frozen=True, kw_only=True)
class Page:
    """Everything that the template writes."""

    title: str
    status: str
    verdict: str
    warnings: Sequence[str]
    comparison: Sequence[Part]
    sections: Sequence[Section]
    definitions: Sequence[Facts]
    version: str


def write_page(sources: Sequence[Source]) -> str:
    """Return the HTML page of stored reports. The same reports give the same text. Raises
    `ModuleNotFoundError` if jinja2 is not installed."""
    from jinja2 import Environment, FunctionLoader, StrictUndefined

    folder = files("satexport.report.page")
    style, script = ((folder / name).read_text("utf-8") for name in (STYLE, SCRIPT))
    environment = Environment(
        loader=FunctionLoader(lambda name: (folder / name).read_text("utf-8")), autoescape=True,
        undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True, finalize=_in_one_line)
    environment.globals["shapes"] = SHAPES
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    return environment.get_template(TEMPLATE).render(
        page=make_page(sources), style=Literal(style), script=Literal(script), script_sha256=digest)


@dataclass(frozen=True)
class Literal:
    """Text of a file of ours, written as it stands."""

    text: str

    def __html__(self) -> str:
        return self.text


def _in_one_line(value: object) -> object:
    """Text from reports, in which a character could change the direction of what follows it."""
    return value if hasattr(value, "__html__") or not isinstance(value, str) else printable(value)


def make_page(sources: Sequence[Source]) -> Page:
    """Return what the page of stored reports says."""
    subjects = find_subjects(sources)
    reports = [report for source in sources for report in source.reports]
    status, words = _verdict([status for subject in subjects for status in subject.statuses])
    things = "bundles" if all(source.bundle for source in sources) else "sets of reports"
    return Page(
        title=subjects[0].name if len(subjects) == 1 else f"{len(subjects)} {things} compared",
        status=status, verdict=words,
        warnings=list(dict.fromkeys(filter(None, (getattr(report, "warning", None) for report in reports)))),
        comparison=list(comparison_parts(subjects)),
        sections=[_section(number, subject) for number, subject in enumerate(subjects, 1)],
        definitions=list(_definitions(reports)), version=__version__)


def _verdict(states: Sequence[str]) -> tuple[str, str]:
    """Return the status of the whole page, and a sentence on all bundles."""
    count, failed = len(states), states.count("failed")
    unjudged = states.count("skipped") + states.count("")
    if not any(states):
        return "", "There are no gates"
    if count == 1:
        return states[0], {"passed": "All gates passed", "failed": "It failed",
                           "skipped": "No gate failed, but not all were judged"}[states[0]]
    were = "was" if unjudged == 1 else "were"
    rest = f"; {unjudged} {were} not judged, or only in part" if unjudged else ""
    if failed:
        return "failed", f"{failed} of {count} bundles failed{rest}"
    return ("skipped", f"No gate of {count} bundles failed{rest}") if unjudged else (
        "passed", f"All gates of {count} bundles passed")


def _section(number: int, subject: Subject) -> Section:
    return Section(id=f"bundle-{number}", name=subject.name, mark=subject.mark, status=subject.status,
                   word=subject.status or NO_GATES, parts=list(_once(subject, _section_parts(subject))))


def _section_parts(subject: Subject) -> Iterator[Part]:
    bundle, about = subject.source.bundle, subject.name
    for kind in subject.strangers:
        yield Text(kind="warning", text=f"The {kind} report in this bundle is about another bundle, as its "
                                        "SHA-256 says: its figures are not compared.")
    for report in subject.source.reports:
        for text in filter(None, (getattr(report, "caution", None),)):
            yield Text(kind="warning", text=text)
    if subject.mark and not subject.cases[0][1].parity:
        yield Text(text="Not proven: no report here compares its scores with PyTorch's.")
    gates = _gates(subject)
    beside: list[Part] = [gates] if gates else []
    parts = [part for report in sorted(subject.source.reports, key=_place)
             for part in report_parts(report, about, bundle)]
    if parts and isinstance(parts[0], Chart):
        beside.append(parts.pop(0))
    if bundle and beside:
        yield Pair(left=[identity_facts(bundle)], right=beside)
    else:
        yield from [identity_facts(bundle)] if bundle else beside
    yield from parts
    yield from provenance_parts(subject)


def _once(subject: Subject, parts: Iterable[Part]) -> Iterator[Part]:
    """Leave out sentences that the section has already, as several reports say the same."""
    seen = {describe_streaming(subject.source.bundle.contract)} if subject.source.bundle else set()
    for part in parts:
        if isinstance(part, Text):
            if part.text in seen:
                continue
            seen.add(part.text)
        yield part


def _place(report: Report) -> int:
    """The place of a report among those of a bundle: kinds of SECTIONS first, in their order."""
    kinds = list(SECTIONS)
    kind = kind_of(report)
    return kinds.index(kind) if kind in kinds else len(kinds)


def _gates(subject: Subject) -> Grid | None:
    """The gates of a subject; None if it has none. Those of a matrix are in its tables."""
    if not subject.mark or not subject.gates:
        return None
    return Grid(title="Gates", label=f"gates of {subject.name}", texts=3, statuses=1,
                head=["gate", "result", "condition"],
                rows=[[gate.name, gate.status, gate.note] for gate in subject.gates])


def _definitions(reports: Sequence[Report]) -> Iterator[Facts]:
    """The terms and the figures of each kind of report, each figure once."""
    seen: set[tuple[str, str]] = set()
    for kind in dict.fromkeys(map(kind_of, reports)):
        rows = [*TERMS[kind].items(), *((figure.head, figure.definition)
                                        for figures in KIND_FIGURES[kind] for figure in figures)]
        new = [row for row in rows if row not in seen]
        seen |= set(new)
        if new:
            yield Facts(title=f"Of {kind} reports", rows=new)
