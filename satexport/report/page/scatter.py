"""The chart that compares bundles: points on one scale, and a strip for those without a second value."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from satexport.report.page.parts import Picture
from satexport.report.page.plot import BOTTOM, TOP, Plot, below
from satexport.report.page.scales import Scale, linear_scale, time_scale
from satexport.report.page.svg import inside, percent, picture, rectangle, shape, text

HEIGHT, STRIP, GAP = 240, 46, 14   # px: the area, the strip below it, and what is between them
NARROW = 270                       # px of a chart on a phone: signs that are apart there are apart everywhere
LETTER, TALL = 7, 12               # px: width and height of a letter of a sign
SIDES = ((9, 4, ""), (-9, 4, "end"), (0, -10, "middle"), (0, 18, "middle"), (8, -8, ""), (8, 16, ""),
         (-8, -8, "end"), (-8, 16, "end"))   # px from a mark to its sign, and how that is aligned


@dataclass(frozen=True, kw_only=True)
class Point:
    """A bundle, or PyTorch, on the scales of a comparison."""

    name: str
    sign: str             # beside its mark
    shape: int | None     # None: PyTorch
    x: float
    y: float | None       # None: in the strip


def scatter_chart(points: Sequence[Point], limits: Sequence[tuple[float, str]], x_title: str, y_title: str,
                  strip: str, label: str) -> Picture:
    """Return points on one scale. Those without `y` lie in a strip below it, which says `strip`. `limits` are
    lines at a `y`, with their names."""
    rated = [point.y for point in points if point.y is not None]
    has_strip = len(rated) < len(points)
    x = time_scale(point.x for point in points)
    plot = Plot(x=x, y=linear_scale([*rated, *(value for value, _ in limits)]),
                height=HEIGHT if rated else -GAP)
    drawn: list[str] = []
    if rated:
        drawn += plot.axes("" if has_strip else x_title, y_title)
        for value, name in limits:
            drawn += _limit(plot, value, name, points)
    bottom = plot.bottom
    if has_strip:
        bottom += GAP + STRIP
        drawn += _strip(x, bottom, strip, x_title)
    places = [(point, x.share(point.x), bottom - 15 if point.y is None else plot.down(point.y))
              for point in points]
    return picture(label, bottom + BOTTOM, [*drawn, *_marks(places)])


def _limit(plot: Plot, value: float, name: str, points: Sequence[Point]) -> Iterator[str]:
    """Yield a line with its name, on the side on which fewer points lie near it."""
    near = [plot.x.share(point.x) for point in points
            if point.y is not None and 0 <= plot.down(value) - plot.down(point.y) < 2 * TALL]
    yield plot.level(value)
    if sum(share > 0.5 for share in near) <= sum(share <= 0.5 for share in near):
        yield text(name, "100%", plot.down(value) - 5, "end", "limit")
    else:
        yield text(name, "4", plot.down(value) - 5, kind="limit")


def _strip(x: Scale, bottom: float, name: str, x_title: str) -> Iterator[str]:
    yield rectangle("0", bottom - STRIP, "100%", STRIP, "again")
    yield text(name, "6", bottom - STRIP + 15)
    yield from below(x, bottom, x_title)


def _marks(places: Sequence[tuple[Point, float, float]]) -> Iterator[str]:
    """Yield the marks, each with its sign where that covers no mark and no other sign, if there is such a
    place."""
    taken = [(left * NARROW, down, 6.0) for _, left, down in places]
    for point, left, down in places:
        style = "" if point.shape is not None else "reference"
        yield shape(point.shape or 0, percent(left), down, point.name, style)
        half = LETTER * len(point.sign) / 2
        spots = [(left * NARROW + right + {"": half, "end": -half, "middle": 0.0}[anchor], down + lower - 4,
                  half) for right, lower, anchor in SIDES]
        best = next((number for number, spot in enumerate(spots) if _is_free(spot, taken)), 0)
        taken.append(spots[best])
        right, lower, anchor = SIDES[best]
        yield inside(percent(left), down, text(point.sign, str(right), lower, anchor, "sign"))


def _is_free(spot: tuple[float, float, float], taken: Sequence[tuple[float, float, float]]) -> bool:
    """Return whether a text, given by its middle and half its width in px, touches none of the others."""
    x, y, half = spot
    return 0 <= x <= NARROW + 20 and y >= TOP - 16 and all(
        abs(x - other_x) >= half + other_half + 2 or abs(y - other_y) >= TALL
        for other_x, other_y, other_half in taken)
