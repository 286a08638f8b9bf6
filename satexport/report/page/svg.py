"""SVG elements of charts whose width is that of the page and whose height is fixed: horizontal places are
shares of the width in percent, vertical ones are pixels, so that text keeps its size on a phone."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from html import escape

from satexport.report.page.parts import Picture
from satexport.terminal import printable

UNITS = 2000     # of the width of a line's own coordinates
SHAPES = (       # around 0, 0; areas that look alike in size
    "M-5 0a5 5 0 1 0 10 0a5 5 0 1 0-10 0",                 # circle
    "M-4.5-4.5h9v9h-9z",                                   # square
    "M0-6L6 0 0 6-6 0z",                                   # diamond
    "M0-6L5.6 4.2H-5.6z",                                  # triangle
    "M0 6L-5.6-4.2H5.6z",                                  # triangle that stands on its tip
    "M-1.8-5.5h3.6v3.7h3.7v3.6h-3.7v3.7h-3.6v-3.7h-3.7v-3.6h3.7z",   # plus
    "M0-6L5.7-1.8 3.5 4.9H-3.5L-5.7-1.8z",                 # pentagon
    "M-3-5.2h6L6 0 3 5.2H-3L-6 0z")                        # hexagon


def number(value: float) -> str:
    """Return a coordinate with at most two decimals."""
    return f"{round(value, 2) + 0:g}"


def percent(share: float) -> str:
    return f"{number(100 * share)}%"


def text(content: str, x: str, y: float, anchor: str = "", kind: str = "") -> str:
    """Return a text; `anchor` is "middle" or "end" if it does not start at `x`."""
    extra = (f' text-anchor="{anchor}"' if anchor else "") + (f' class="{kind}"' if kind else "")
    return f'<text x="{x}" y="{number(y)}"{extra}>{escape(printable(content))}</text>'


def line(x1: str, y1: float, x2: str, y2: float, kind: str) -> str:
    return f'<line x1="{x1}" y1="{number(y1)}" x2="{x2}" y2="{number(y2)}" class="{kind}"/>'


def rectangle(x: str, y: float, width: str, height: float, kind: str) -> str:
    return (f'<rect x="{x}" y="{number(y)}" width="{width}" height="{number(height)}" class="{kind}"/>')


def shape(kind: int, x: str, y: float, name: str, style: str = "") -> str:
    """Return a mark in the shape of this number, in its colour or another style, with a name that a pointer
    shows."""
    kind %= len(SHAPES)
    return inside(x, y, f'<title>{escape(printable(name))}</title><path d="{SHAPES[kind]}" '
                        f'class="{style or f"c{kind}"}"/>', "mark")


def inside(x: str, y: float, elements: str, style: str = "") -> str:
    """Return elements whose own place is relative to this one."""
    extra = f' class="{style}"' if style else ""
    return f'<svg x="{x}" y="{number(y)}"{extra} overflow="visible">{elements}</svg>'


def path(points: Iterable[tuple[float, float] | None], height: float, kind: str) -> str:
    """Return a line through points (share of the width, pixels from the top); None interrupts it."""
    words, is_down = [], False
    for point in points:
        if point is None:
            is_down = False
            continue
        x, y = round(point[0] * UNITS), number(point[1])
        words.append(f"{'L' if is_down else 'M'}{x} {y}")
        is_down = True
    return (f'<svg viewBox="0 0 {UNITS} {number(height)}" preserveAspectRatio="none" width="100%" '
            f'height="{number(height)}"><path d="{"".join(words)}" class="{kind}"/></svg>') if words else ""


def picture(label: str, height: float, elements: Sequence[str], kind: str = "plot") -> Picture:
    """Return a chart with a text for those who do not see it."""
    return Picture(f'<svg class="{kind}" height="{number(height)}" role="img" '
                   f'aria-label="{escape(printable(label))}">{"".join(elements)}</svg>')


def bare(height: float, elements: Sequence[str], kind: str) -> Picture:
    """Return a picture that repeats what is written beside it."""
    return Picture(f'<svg class="{kind}" height="{number(height)}" aria-hidden="true">'
                   f'{"".join(elements)}</svg>')
