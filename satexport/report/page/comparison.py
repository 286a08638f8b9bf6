"""Bundles beside each other: their speed against the mAP that they keep, and one table of their figures."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence

from satexport.report.figure import Figure
from satexport.report.figures import BRIEF_CASE_FIGURES, CASE_FIGURES, MEASURE_FIGURES, present
from satexport.report.page.parts import Chart, Entry, Grid, Mark, Pair, Part, Text, set_title
from satexport.report.page.scatter import Point, scatter_chart
from satexport.report.page.subjects import Subject
from satexport.report.records import CaseResult

SPEEDS = "burst_median_ms", "cpu_ms"   # keys of the figures that are compared with mAP kept
KEPT = "map_kept"
EAGER = "P"                            # the sign of PyTorch eager
UNRATED = "no labelled set"
Case = tuple[Mark, CaseResult]


def comparison_parts(subjects: Sequence[Subject]) -> Iterator[Part]:
    """Yield what must be known before figures are compared, a chart for each of SPEEDS, and the table;
    nothing without a case."""
    cases = [case for subject in subjects for case in subject.cases if case[1].parity or case[1].entry]
    if not cases:
        return
    yield from _cautions([case for _, case in cases])
    limits = {subject.source.bundle.gates.map_kept for subject in subjects if subject.source.bundle}
    charts = [chart for key in SPEEDS if (chart := _chart(cases, _figure(key), limits))]
    if len(charts) > 1:
        yield Pair(left=charts[:1], right=charts[1:])
    else:
        yield from charts
    yield _table(cases)
    if left_out := [subject.name for subject in subjects if subject.source.bundle and not subject.cases]:
        yield Text(text=f"Not compared, because neither proven nor measured: {', '.join(left_out)}.")


def _figure(key: str) -> Figure[CaseResult]:
    return next(figure for figure in CASE_FIGURES if figure.key == key)


def _cautions(cases: Sequence[CaseResult]) -> Iterator[Text]:
    """Yield what must be known before figures of these cases are compared."""
    machines = dict.fromkeys(case.measured.machine for case in cases if case.measured)
    if len(machines) > 1:
        yield Text(kind="warning", text="Times were measured under different conditions and do not compare: "
                                        f"{'; '.join(machines)}.")
    eager = {(row.name, row.latency.burst.median_ms) for case in cases if case.measured
             for row in case.measured.eager}
    if len(eager) > len({name for name, _ in eager}):
        yield Text(text="The bundles were measured in different runs, as PyTorch's times show: compare their "
                        "times with care.")
    sets = dict.fromkeys(f"{found.name}, {found.clips} clips" for case in cases if case.parity
                         for found in [case.parity.labelled_set] if found)
    if len(sets) > 1:
        yield Text(kind="warning", text="mAP was measured on different sets and does not compare: "
                                        f"{'; '.join(sets)}.")
    weights = dict.fromkeys(case.parity.checkpoint.sha256 for case in cases if case.parity)
    if len(weights) > 1:
        yield Text(text=f"The bundles come from {len(weights)} checkpoints: mAP kept compares each with "
                        "PyTorch and its own weights.")


def _chart(cases: Sequence[Case], speed: Figure[CaseResult], limits: set[float]) -> Chart | None:
    """Return a chart of a figure of speed against mAP kept; None if no case has that speed."""
    kept = _figure(KEPT)
    points = [Point(name=_told(mark, case, speed, kept), sign=str(mark.number), shape=mark.shape, x=value,
                    y=_in_percent(kept.of(case)))
              for mark, case in cases if (value := speed.of(case)) is not None and math.isfinite(value)]
    if not points:
        return None
    eager = list(_eager_points(cases, speed))
    missing = [case.name for _, case in cases if speed.of(case) is None]
    rated = any(point.y is not None for point in points)
    points += eager if rated else []
    lines = [(100 * limit, f"gate: at least {100 * limit:g} %") for limit in sorted(limits)] if rated else []
    sets = dict.fromkeys(set_title(case.parity.labelled_set.name) for _, case in cases
                         if case.parity and case.parity.labelled_set)
    caption = "To the left is faster, above keeps more of the mAP. " if rated else ""
    if rated and eager:
        caption += f"{EAGER}: PyTorch, whose mAP is 100 % ({'; '.join(point.name for point in eager)}). "
    if missing:
        caption += f"Not measured: {', '.join(missing)}. "
    what = f"{speed.title} against {kept.title}" if rated else speed.head
    return Chart(
        title=_capital(what + (f" on {', '.join(sets)}" if rated and len(sets) == 1 else "")),
        caption=caption.strip(),
        picture=scatter_chart(points, lines, speed.head, f"{kept.title}, %", UNRATED,
                              f"{what}: {'; '.join(point.name for point in points)}."))


def _capital(text: str) -> str:
    return text[:1].upper() + text[1:]


def _told(mark: Mark, case: CaseResult, speed: Figure[CaseResult], kept: Figure[CaseResult]) -> str:
    unit = f" {speed.unit}" if speed.unit else ""
    return (f"{mark.number} {case.name}, {speed.text(case)}{unit}, "
            + (f"{kept.text(case)} of mAP" if kept.of(case) is not None else UNRATED))


def _in_percent(value: float | None) -> float | None:
    return None if value is None or not math.isfinite(value) else 100 * value


def _eager_points(cases: Sequence[Case], speed: Figure[CaseResult]) -> Iterator[Point]:
    """Yield PyTorch beside the cases that were judged on a labelled set, once for each of its measurements
    that differ."""
    measure = next(figure for figure in MEASURE_FIGURES if figure.key == speed.key)
    rows = dict.fromkeys((row.name, value) for _, case in cases
                         if case.measured and case.parity and case.parity.labelled_set
                         for row in case.measured.eager if (value := measure.of(row)) is not None)
    for name, value in rows:
        yield Point(name=f"{name}, {measure.write(value)} {measure.unit}", sign=EAGER, shape=None,
                    x=value, y=100.0)


def _table(cases: Sequence[Case]) -> Grid:
    """All brief figures of the cases."""
    figures = present(BRIEF_CASE_FIGURES, [case for _, case in cases])
    rows: list[list[Entry]] = [[mark, case.name, case.status, *(figure.text(case) for figure in figures)]
                               for mark, case in cases]
    return Grid(title=f"Figures of the bundle{'' if len(cases) == 1 else 's'}", texts=3,
                label="figures of the bundles", statuses=2, rows=rows,
                head=["no.", "bundle", "gates", *(figure.head for figure in figures)])
