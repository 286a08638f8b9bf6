"""The area of a chart: where values lie in it, its axes, and lines that are thinned to what can be seen."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from satexport.report.page.parts import Picture
from satexport.report.page.scales import Scale
from satexport.report.page.svg import line, percent, picture, text

TOP, BOTTOM = 26, 42     # px above and below the area, for the ticks and the titles of the axes
TICKS, TITLE = 18, 36    # px from the area down to the base of these texts
BUCKETS = 480            # of a thinned line: each gives its smallest and its largest value


@dataclass(frozen=True, kw_only=True)
class Plot:
    """An area of `height` pixels that is as wide as the page allows."""

    x: Scale
    y: Scale
    height: float

    @property
    def bottom(self) -> float:
        """The lower end of the area, pixels from the top of the picture."""
        return TOP + self.height

    def across(self, value: float) -> str:
        return percent(self.x.share(value))

    def down(self, value: float) -> float:
        """Pixels from the top of the picture."""
        return TOP + self.height * (1 - self.y.share(value))

    def at(self, x: float, y: float) -> tuple[float, float] | None:
        """Return a point of a line; None if it has no place."""
        return (self.x.share(x), self.down(y)) if math.isfinite(y) else None

    def axes(self, x_title: str, y_title: str) -> Iterator[str]:
        """Yield the grid, the ticks and the titles; without `x_title` only those at the left."""
        for value, name in self.y.ticks:
            yield line("0", self.down(value), "100%", self.down(value), "grid")
            yield text(name, "-8", self.down(value) + 4, "end")
        yield text(y_title, "-48", 10, kind="title")
        if x_title:
            yield from below(self.x, self.bottom, x_title)

    def level(self, value: float) -> str:
        """Return a line across the area."""
        return line("0", self.down(value), "100%", self.down(value), "level")

    def picture(self, label: str, drawn: Sequence[str]) -> Picture:
        """Return all that was drawn, with a text for those who do not see it."""
        return picture(label, self.bottom + BOTTOM, drawn)


def below(x: Scale, bottom: float, title: str) -> Iterator[str]:
    """Yield the lower axis of an area that ends at `bottom`."""
    for value, name in x.ticks:
        place = percent(x.share(value))
        yield line(place, bottom, place, bottom + 4, "axis")
        yield text(name, place, bottom + TICKS, "middle")
    yield line("0", bottom, "100%", bottom, "axis")
    yield text(title, "100%", bottom + TITLE, "end", "title")


def thin(curve: Sequence[float], buckets: int = BUCKETS) -> Iterator[tuple[int, float]]:
    """Yield the points of a line, or of a long one the smallest and the largest of each of `buckets` parts,
    in the order in which they come: what is drawn at this many pixels looks the same."""
    if len(curve) <= 2 * buckets:
        yield from enumerate(curve)
        return
    for bucket in range(buckets):
        start, end = bucket * len(curve) // buckets, (bucket + 1) * len(curve) // buckets
        places = [at for at in range(start, end) if math.isfinite(curve[at])]
        if not places:
            yield start, math.nan
            continue
        ends = {min(places, key=curve.__getitem__), max(places, key=curve.__getitem__)}
        yield from ((at, curve[at]) for at in sorted(ends))
