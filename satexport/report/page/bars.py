"""Bars in the cells of tables, drawn beside the numbers that they stand for."""

from __future__ import annotations

import math
from collections.abc import Iterable

from satexport.report.page.parts import Picture
from satexport.report.page.svg import bare, inside, line, percent, rectangle

HEIGHT = 18  # px


def bar(value: float | None, top: float, *, other: float | None = None,
        between: tuple[float, float] | None = None, marks: Iterable[float] = ()) -> Picture:
    """Return a bar of a value on a scale from 0 to `top`, below it a thin bar of the `other` value that it is
    compared with, a line for the interval that it lies in, and a mark for each claim about it."""
    drawn = []
    if value is not None and math.isfinite(value):
        drawn.append(rectangle("0", 1, _share(value, top), 8, "bar"))
    if other is not None and math.isfinite(other):
        drawn.append(rectangle("0", 13, _share(other, top), 4, "other"))
    if between and all(map(math.isfinite, between)):
        drawn.append(line(_share(between[0], top), 11, _share(between[1], top), 11, "whisker"))
    drawn += [inside(_share(claim, top), 5, '<path d="M0-5L5 0 0 5-5 0z" class="claim"/>')
              for claim in marks]
    return bare(HEIGHT, drawn, "bars")


def _share(value: float, top: float) -> str:
    return percent(min(max(value / top, 0.0), 1.0) if top > 0 else 0.0)
