"""The charts of one bundle: the parity curve, the distribution of latency, and scores over a recording."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence

from satexport.measure.latency import QUANTILES, Latency
from satexport.report.page.parts import Picture
from satexport.report.page.plot import TOP, Plot, thin
from satexport.report.page.scales import Scale, linear_scale, time_scale
from satexport.report.page.svg import line, path, percent, rectangle, shape, text

HEIGHT = 190          # px
SCORES_HEIGHT = 90    # px
APART = 12            # px between the names of two levels


def curve_chart(curve: Sequence[float], levels: Sequence[tuple[str, float]], repeated: int | None,
                x_title: str, label: str) -> Picture:
    """Return the mean score difference of each chunk, with lines at the `levels`. From the chunk `repeated`
    on, the stream repeats its beginning; None: it does not, or that is not known."""
    end = max(len(curve) - 1, 1)
    ticks = tuple(tick for tick in linear_scale([0, end]).ticks if tick[0] <= end)
    plot = Plot(x=Scale(low=0, high=end, ticks=ticks), height=HEIGHT,
                y=linear_scale([*curve, *(value for _, value in levels)], 5, has_zero=True))
    drawn = [*_repeated(plot, repeated), *plot.axes(x_title, "mean score difference"),
             path([plot.at(at, value) for at, value in thin(curve)], plot.bottom, "curve"),
             *_levels(plot, levels)]
    return plot.picture(label, drawn)


def _repeated(plot: Plot, start: int | None) -> Iterator[str]:
    if start is not None and 0 <= start < plot.x.high:
        share = plot.x.share(start)
        yield rectangle(percent(share), TOP, percent(1 - share), plot.height, "again")
        yield line(percent(share), TOP, percent(share), plot.bottom, "edge")
        yield text("repeated", percent((1 + share) / 2), TOP - 5, "middle")


def _levels(plot: Plot, levels: Sequence[tuple[str, float]]) -> Iterator[str]:
    """Yield a line for each level, the lowest first, and its name beside it or above the last one."""
    lowest = math.inf
    for name, value in sorted(levels, key=lambda level: level[1]):
        if math.isfinite(value):
            yield plot.level(value)
            lowest = min(plot.down(value) + 4, lowest - APART)
            yield text(name, "100%", lowest, kind="beside")


def scores_chart(scores: Sequence[float], hop: float, seconds: float, events: Sequence[tuple[float, float]],
                 label: str) -> Picture:
    """Return the score of each chunk of `hop` seconds over a recording of so many seconds, with the
    events, begin and end in seconds, behind the line."""
    end = max(seconds, hop)
    ticks = tuple(tick for tick in linear_scale([0, end]).ticks if tick[0] <= end)
    plot = Plot(x=Scale(low=0, high=end, ticks=ticks), height=SCORES_HEIGHT, y=linear_scale([0, 1], 3))
    shaded = [rectangle(plot.across(begin), TOP, percent(plot.x.share(finish) - plot.x.share(begin)),
                        plot.height, "again") for begin, finish in events]
    steps = [plot.at(min(edge, end), score) for at, score in thin(scores)
             for edge in (hop * at, hop * (at + 1))]
    return plot.picture(label, [*shaded, *plot.axes("time, s", "score"), path(steps, plot.bottom, "curve")])


def latency_chart(rows: Sequence[tuple[str, Latency]], label: str) -> Picture:
    """Return the quantiles of the times of steps, a line for each row, with marks at the median, p90 and p99;
    of a report without quantiles only the marks."""
    marks = [((50, latency.median_ms), (90, latency.p90_ms), (99, latency.p99_ms)) for _, latency in rows]
    lines = [tuple(zip(QUANTILES, latency.quantiles_ms or (), strict=False)) for _, latency in rows]
    plot = Plot(x=linear_scale([0, 100]), height=HEIGHT,
                y=time_scale(value for points in (*marks, *lines) for _, value in points))
    drawn = list(plot.axes("share of the steps that took at most that long, %", "time of a step, ms"))
    for number, points in enumerate(lines):
        drawn.append(path([plot.at(*point) for point in points], plot.bottom, f"line c{number}"))
    for number, ((name, _), points) in enumerate(zip(rows, marks, strict=True)):
        drawn += [shape(number, plot.across(share), plot.down(value), f"{name}, {share} %: {value:.3g} ms")
                  for share, value in points if math.isfinite(value)]
    return plot.picture(label, drawn)
