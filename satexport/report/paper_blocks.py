"""The readable content of the papers' tables and of scores over a recording. Imports only numpy."""

from __future__ import annotations

from collections.abc import Iterator

from satexport.parity.records import describe_left_out
from satexport.report.figures import present
from satexport.report.paper_figures import SECTIONS, score_figures
from satexport.report.paper_records import WITHIN, PaperReport, PaperRow, ScoresReport
from satexport.report.table import Block, Table, rows_table

SCORED = ("map", "events")   # sections with figures of a labelled set


def describe_paper(report: PaperReport) -> Iterator[Block]:
    """Yield a table for each group of figures, with a row for each row of the paper, and then in sentences
    how the paper counted, what does not agree and why, and what was not measured. `describe_stored` adds
    the notes."""
    for section in report.sections:
        title, figures = SECTIONS[section]
        shown = present(figures, report.rows)
        if any(figure.of(row) is not None for row in report.rows for figure in shown):
            where = _sets_of(report) if section in SCORED else ""
            yield Table(title=f"{report.title}: {title}{where}", texts=3, head=(
                "row", "paper's name", "s", *(figure.head for figure in shown)), rows=[
                [_name(row), row.title, str(row.seconds), *(figure.text(row) for figure in shown)]
                for row in report.rows if any(figure.of(row) is not None for figure in shown)])
    yield from _describe_weights(report)
    yield from _describe_counting(report)
    if set(report.sections) != {"events"}:  # the notes are about everything else
        yield from dict.fromkeys(row.published.note for row in report.rows if row.published.note)
    yield from _describe_sets(report)
    yield from _describe_missing(report)


def _sets_of(report: PaperReport) -> str:
    """What a title says about the sets that were scored; "" if none was."""
    names = dict.fromkeys(row.labelled_set.name for row in report.rows if row.labelled_set)
    return f"; the paper's on AudioSet, measured on {', '.join(names)}" if names else ""


def _describe_weights(report: PaperReport) -> Iterator[str]:
    """Yield which weights were measured."""
    names: dict[str, list[str]] = {}
    for row in report.rows:
        if row.checkpoint:
            names.setdefault(row.checkpoint.name, []).append(row.name)
    for name, rows in names.items():
        which = "all rows" if len(names) == 1 and len(rows) > 1 else ", ".join(rows)
        yield f"Weights: {name} ({which})."


def _name(row: PaperRow) -> str:
    return f"{row.name} {row.kind}".strip()


def _describe_counting(report: PaperReport) -> Iterator[str]:
    """Yield how the paper counted operations, and why a count does not agree."""
    ways: dict[str, list[str]] = {}
    for row in report.rows:
        if row.as_paper is not None and row.published.counting:
            ways.setdefault(row.published.counting.what, []).append(row.name)
    for way, names in ways.items():
        yield f"Operations counted as in the paper: {way} ({', '.join(names)})."
    rounded = [row.name for row in report.rows if row.agrees and abs(row.difference_from_paper or 0) > WITHIN]
    if rounded:
        yield (f"Counts that differ by more than {WITHIN:.0%} and agree after rounding to the digits that "
               f"the paper prints: {', '.join(rounded)}.")
    for row in report.rows:
        if row.agrees is False and row.published.counting:
            yield (f"{row.name} does not agree with the paper: "
                   f"{row.published.counting.reason or 'the reason is not known.'}")


def _describe_sets(report: PaperReport) -> Iterator[str]:
    """Yield on which set the figures of each row were measured, and what is missing in it."""
    names: dict[str, list[str]] = {}
    for row in report.rows:
        if found := row.labelled_set:
            facts = (f"{found.name}, {found.clips} clips with {len(found.pytorch.classes)} classes; the "
                     "paper's figures are of AudioSet's evaluation set, with 527",
                     *describe_left_out(found.origin))
            names.setdefault(". ".join(text.removesuffix(".") for text in facts), []).append(row.name)
    for facts_text, rows in names.items():
        yield f"Measured on {facts_text} ({', '.join(rows)})."


def _describe_missing(report: PaperReport) -> Iterator[str]:
    """Yield why there are no figures of a labelled set, for all rows with the same reason together."""
    reasons: dict[str, list[str]] = {}
    for row in report.rows:
        if row.why_not:
            reasons.setdefault(row.why_not, []).append(_name(row))
    for reason, names in reasons.items():
        which = "all rows" if len(names) == len(report.rows) else ", ".join(names)
        yield f"Not measured, {reason}: {which}."


def describe_scores(report: ScoresReport) -> Iterator[Block]:
    """Yield a table for each label, with a row for each bundle."""
    for label in report.labels:
        yield rows_table(f"scores of {label} over {report.seconds:g} s of {report.recording}", "bundle",
                         score_figures(label), {curve.name: curve for curve in report.curves})
