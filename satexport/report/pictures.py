"""Reports as pictures."""

from __future__ import annotations

import io
import logging
import os
import textwrap
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from satexport.files import cache_folder, write_bytes
from satexport.measure.records import MeasureEntry, MeasureReport
from satexport.parity.records import ParityReport
from satexport.progress import progress
from satexport.report.blocks import describe_origin
from satexport.report.figure import Figure
from satexport.report.figures import MEASURE_FIGURES, present
from satexport.report.paper_records import ScoreCurve, ScoresReport
from satexport.report.records import Report
from satexport.terminal import printable

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure as Canvas

COLUMNS = 4          # panels in a row of the picture of a measurement
ROOM = 1.25          # width of a panel / its longest bar; leaves room for the values at the right
CHARACTERS = 13      # of a caption per inch
FARTHEST = 3.0       # a mark farther than so many times the longest bar is drawn at the edge
BEYOND = "beyond the edge"
MARKS = {"p99": "o", "paper": "D"}
BUNDLE, EAGER, GREY, EVENT = "#2a6f97", "#a9b4bd", "#555555", "#f3e2b3"


def has_picture(report: Report) -> bool:
    """Return whether there is a picture of this report."""
    return isinstance(report, MeasureReport | ScoresReport) or (
        isinstance(report, ParityReport) and report.curve is not None)


def write_picture(path: Path, report: Report) -> list[str]:
    """Draw a report that `has_picture` into a PNG file. Returns notes for the user: one if matplotlib is not
    installed. Raises `RunError` if the file cannot be written."""
    try:
        with progress(f"draw {path.name}", None):
            content = draw(report)
    except ModuleNotFoundError as error:
        return [f"no {path.name}: {error.name} is not installed: pip install 'satexport[measure]'"]
    write_bytes(path, content)
    return []


def draw(report: Report) -> bytes:
    """Return the bytes of a PNG of a report that `has_picture`. Raises `ModuleNotFoundError` if matplotlib is
    not installed."""
    if isinstance(report, MeasureReport):
        return png_of(draw_measure(report))
    if isinstance(report, ScoresReport):
        return png_of(draw_scores(report))
    assert isinstance(report, ParityReport), "has_picture"
    return png_of(draw_drift(report))


def draw_drift(report: ParityReport) -> Canvas:
    """Return a picture of a parity report: the mean score difference of each chunk of the stream, its
    quantiles, and the range of the sounds that the stream repeats at its end."""
    canvas = new_canvas(10, 4)
    (over, differences), *_ = report.differences.items()
    curve = np.asarray(report.curve)
    axes = canvas.subplots()
    axes.plot(curve, linewidth=0.8, color=BUNDLE, label="mean over the classes, each chunk")
    if report.drift:
        axes.axvspan(differences.chunks, len(curve) - 1, alpha=0.15,
                     label=f"first chunks, repeated: drift {report.drift.drift:+.1%} of the mean")
    for name, value in (("p50", differences.p50), ("p90", differences.p90), ("p99", differences.p99)):
        axes.axhline(value, color="grey", linewidth=0.6, linestyle=":")
        axes.annotate(name, (1, value), xycoords=("axes fraction", "data"), fontsize="x-small")
    axes.set(xlabel="chunk", ylabel="score difference", ylim=(0, None))
    _add_caption(canvas, report, f"{report.variant} / {report.target} against PyTorch fp32, {over}")
    canvas.legend(loc="outside lower right", fontsize="small", frameon=False, ncols=2)
    axes.spines[["top", "right"]].set_visible(False)
    return canvas


def draw_scores(report: ScoresReport) -> Canvas:
    """Return a picture of scores over a recording: a row of panels for each label, with a panel for each
    bundle and the true events behind its curve, if they are known."""
    canvas = new_canvas(11, 0.8 + 1.1 * len(report.labels) * len(report.curves))
    panels = [(label, curve) for label in report.labels for curve in report.curves]
    grid = canvas.subplots(len(panels), 1, sharex=True, sharey=True, squeeze=False)
    for axes, (label, curve) in zip(grid.flatten(), panels, strict=True):
        for begin, end in (report.events or {}).get(label, ()):
            axes.axvspan(begin, end, color=EVENT, linewidth=0)
        _draw_curve(axes, label, curve)
    grid[-1, 0].set(xlabel="time, s", xlim=(0, report.seconds), ylim=(0, 1))
    shaded = "; shaded: the sound is there" if report.events else ""
    _add_caption(canvas, report, f"scores over {report.recording}{shaded}")
    return canvas


def _draw_curve(axes: Axes, label: str, curve: ScoreCurve) -> None:
    """Draw the score of each chunk over the time of its audio."""
    scores = curve.scores[label]
    edges = curve.hop_seconds * np.arange(len(scores) + 1)
    axes.stairs(scores, edges, color=GREY if curve.is_reset else BUNDLE, linewidth=1.0)
    axes.set_title(printable(f"{label}: {curve.name}"), fontsize="small", loc="left")
    axes.spines[["top", "right"]].set_visible(False)


def draw_measure(report: MeasureReport) -> Canvas:
    """Return a picture that compares bundles and PyTorch eager. Each figure has a panel with its own scale
    from zero, and a bar and the value for each entry; figures with `panel_of` are marks in panels."""
    entries = [*report.bundles, *report.eager]
    figures = present([figure for figure in MEASURE_FIGURES if figure.pictured], entries)
    panels = [figure for figure in figures if not figure.panel_of]
    columns = min(COLUMNS, len(panels))
    rows = -(-len(panels) // columns)
    canvas = new_canvas(2.8 * columns + 1.6, rows * (0.75 + 0.3 * len(entries)) + 0.9)
    grid = canvas.subplots(rows, columns, sharey=True, squeeze=False).flatten()
    for axes, panel in zip(grid, panels, strict=False):
        _draw_panel(axes, panel, [figure for figure in figures if figure.panel_of == panel.key], entries,
                    len(report.bundles))
    for axes in grid[len(panels):]:
        axes.set_visible(False)
    grid[0].invert_yaxis()
    marks = {handle.get_label(): handle for axes in grid for handle in axes.get_legend_handles_labels()[0]}
    if marks:
        canvas.legend(handles=list(marks.values()), loc="outside lower right", fontsize="small",
                      frameon=False, ncols=len(marks))
    _add_caption(canvas, report, report.machine)
    return canvas


def _add_caption(canvas: Canvas, report: MeasureReport | ParityReport | ScoresReport, title: str) -> None:
    """Write the title, the report's warning and its origin above the panels."""
    width = int(CHARACTERS * canvas.get_figwidth())
    lines = [*filter(None, (printable(title), report.warning)),
             *textwrap.wrap(describe_origin(report.origin), width)]
    canvas.suptitle("\n".join(lines), fontsize="small", x=0.01, ha="left")


def _draw_panel(axes: Axes, panel: Figure[MeasureEntry], marks: Sequence[Figure[MeasureEntry]],
                entries: Sequence[MeasureEntry], bundles: int) -> None:
    """Draw one figure of all entries; the first `bundles` of them are bundles, the others PyTorch."""
    values = [panel.of(entry) for entry in entries]
    longest = max((value for value in values if value is not None), default=0.0)
    marked = [value for mark in marks for entry in entries if (value := mark.of(entry)) is not None]
    edge = min(max([longest, *marked]), FARTHEST * longest)  # a few slow steps must not shrink all bars
    axes.barh(range(len(entries)), [value or 0 for value in values], 0.62,
              color=[BUNDLE] * bundles + [EAGER] * (len(entries) - bundles))
    for row, value in enumerate(values):
        axes.annotate(panel.write(value), (1, row), xycoords=("axes fraction", "data"), ha="right",
                      va="center", fontsize="small")
    for mark in marks:
        points = [(value, row) for row, entry in enumerate(entries)
                  if (value := mark.of(entry)) is not None]
        for style, label, shown in (
                (MARKS[mark.mark], mark.mark, [point for point in points if point[0] <= edge]),
                (">", BEYOND, [(edge, row) for value, row in points if value > edge])):
            if shown:
                axes.plot(*zip(*shown, strict=True), style, color=GREY, markersize=5, markerfacecolor="white",
                          linestyle="none", label=label)
    axes.set_title(panel.head, fontsize="small", loc="left")
    axes.set(xlim=(0, edge * ROOM or 1), yticks=range(len(entries)),
             yticklabels=[entry.name for entry in entries])
    axes.tick_params(axis="x", labelbottom=False, bottom=False)
    axes.tick_params(axis="y", labelsize="small", left=False)
    axes.spines[["top", "right", "bottom"]].set_visible(False)


def new_canvas(width: float, height: float) -> Canvas:
    """Return an empty picture; its size is in inches. matplotlib keeps its list of fonts in satexport's cache
    folder, or in a temporary folder, without a warning, if that one cannot be written."""
    with suppress(RuntimeError):  # no home folder
        os.environ.setdefault("MPLCONFIGDIR", str(cache_folder() / "matplotlib"))
    logging.getLogger("matplotlib").setLevel(logging.ERROR)
    from matplotlib.figure import Figure as Canvas
    from matplotlib.layout_engine import ConstrainedLayoutEngine

    return Canvas(figsize=(width, height), layout=ConstrainedLayoutEngine(wspace=0.07, hspace=0.07))


def png_of(canvas: Canvas) -> bytes:
    content = io.BytesIO()
    canvas.savefig(content, format="png", dpi=110)
    return content.getvalue()
