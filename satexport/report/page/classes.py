"""The classes of a labelled set: the average precision of the bundle beside that of PyTorch."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import replace

from satexport.parity.records import CONFIDENCE, RESAMPLES, SEED, ClassMetrics, Interval, SetParity
from satexport.report.blocks import MOST_CLASSES, interval_text
from satexport.report.figure import Figure
from satexport.report.page.bars import bar
from satexport.report.page.parts import Entry, Fold, Grid, Part, set_title
from satexport.report.set_figures import CLASS_FIGURES


def class_parts(found: SetParity, about: str) -> Iterator[Part]:
    """Yield a table with bars of at most MOST_CLASSES classes, those that differ most from PyTorch if there
    are more, and a folded table of the others."""
    names = sorted(found.bundle.classes, key=lambda name: (-_finite(_precision(found.bundle.classes[name])),
                                                           name))
    shown = names
    title = f"Average precision of each class, {set_title(found.name)}"
    if len(names) > MOST_CLASSES:
        most = sorted(names, key=lambda name: -abs(_change(found, name)))[:MOST_CLASSES]
        shown = [name for name in names if name in set(most)]
        title = (f"Average precision of the {MOST_CLASSES} classes that differ most from PyTorch, "
                 f"{set_title(found.name)}")
    note = "thick bar: bundle, thin bar: PyTorch"
    if found.intervals:
        note += (f", line: {CONFIDENCE} % interval of the bundle from {RESAMPLES} resamples of the clips, "
                 f"seed {SEED}")
    yield _grid(found, shown, title, about, note)
    if rest := [name for name in names if name not in set(shown)]:
        title = f"The other {len(rest)} classes"
        grid = _grid(found, rest, f"{title}, {found.name}", about, "", has_bars=False)
        yield Fold(title=title, parts=[replace(grid, title="")])


def _grid(found: SetParity, names: Sequence[str], title: str, about: str, note: str,
          has_bars: bool = True) -> Grid:
    first = CLASS_FIGURES[0]
    head = ["class", *([""] if has_bars else []),
            f"{first.title}, bundle", f"{first.title}, PyTorch", "change",
            *([f"{CONFIDENCE} % interval"] if found.intervals else []),
            *(f"{figure.title}, bundle" for figure in CLASS_FIGURES[1:])]
    return Grid(title=title, label=f"{title}, {about}", head=head, note=note, texts=2 if has_bars else 1,
                rows=[_row(found, name, first, has_bars) for name in names])


def _row(found: SetParity, name: str, first: Figure[ClassMetrics], has_bars: bool) -> list[Entry]:
    bundle, pytorch = found.bundle.classes[name], found.pytorch.classes.get(name)
    interval = found.intervals.classes[name][first.key] if found.intervals else None
    change = _change(found, name)
    row: list[Entry] = [name]
    if has_bars:
        row.append(bar(first.of(bundle), 1, other=first.of(pytorch) if pytorch else None,
                       between=(interval.low, interval.high) if interval else None))
    row += [_text(first, bundle), _text(first, pytorch),
            "-" if pytorch is None or math.isnan(_precision(bundle)) else f"{change:+.3f}"]
    if interval:
        row.append(_interval(first, interval))
    return [*row, *(_text(figure, bundle) for figure in CLASS_FIGURES[1:])]


def _text(figure: Figure[ClassMetrics], metrics: ClassMetrics | None) -> str:
    value = figure.of(metrics) if metrics else None
    return figure.write(None if value is None or math.isnan(value) else value)


def _interval(figure: Figure[ClassMetrics], interval: Interval) -> str:
    return interval_text(figure, interval) or "-"


def _precision(metrics: ClassMetrics) -> float:
    value = CLASS_FIGURES[0].of(metrics)
    return math.nan if value is None else value


def _change(found: SetParity, name: str) -> float:
    """Bundle minus PyTorch; 0 if one of them is undefined."""
    pytorch = found.pytorch.classes.get(name)
    return _finite(_precision(found.bundle.classes[name]) - _precision(pytorch)) if pytorch else 0.0


def _finite(value: float) -> float:
    return value if math.isfinite(value) else 0.0
