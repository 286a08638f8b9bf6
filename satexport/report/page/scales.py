"""Scales of charts: from values to shares of an axis, with round ticks."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass

STEPS = 1.0, 2.0, 2.5, 5.0, 10.0   # times a power of ten: distances of ticks that people read easily
SMALL, LARGE = 1e-3, 1e5           # beyond these, ticks are written with an exponent, as the tables do
WIDE = 8.0                         # largest / smallest value from which on a scale is logarithmic


@dataclass(frozen=True, kw_only=True)
class Scale:
    """An axis from `low` to `high`, with ticks and their texts."""

    low: float
    high: float
    ticks: tuple[tuple[float, str], ...]
    is_log: bool = False

    def share(self, value: float) -> float:
        """Return the place of a value, 0 at `low` and 1 at `high`; a value beyond an end is at that end."""
        low, high = (math.log(self.low), math.log(self.high)) if self.is_log else (self.low, self.high)
        if self.is_log:
            value = math.log(max(value, self.low))
        return min(max((value - low) / (high - low), 0.0), 1.0)


def linear_scale(values: Iterable[float], most: int = 6, *, has_zero: bool = False) -> Scale:
    """Return a scale over the finite values with at most `most` ticks, which it begins and ends with."""
    finite = [value for value in values if math.isfinite(value)] or [0.0, 1.0]
    low, high = min(finite), max(finite)
    if has_zero:
        low, high = min(low, 0.0), max(high, 0.0)
    if high - low <= abs(high) * 1e-9:
        low, high = (low - abs(low) / 20 or -1.0, high + abs(high) / 20 or 1.0)
        low = 0.0 if has_zero and high > 0 else low
    step = _step(high - low, most)
    first, last = math.floor(low / step + 1e-9), math.ceil(high / step - 1e-9)
    ticks = [number * step for number in range(first, last + 1)]
    return Scale(low=ticks[0], high=ticks[-1], ticks=tuple((tick, tick_text(tick, step)) for tick in ticks))


def _step(span: float, most: int) -> float:
    """The smallest round distance with which at most `most` ticks cover a span, from wherever it begins."""
    power = 10.0 ** math.floor(math.log10(span / most))
    return next(step * power for step in (*STEPS, 20.0, 25.0, 50.0, 100.0)
                if span / (step * power) <= most - 2 or most <= 2)


def log_scale(values: Iterable[float]) -> Scale:
    """Return a logarithmic scale over the positive finite values, with ticks at 1, 2 and 5 of each power of
    ten, or only at powers of ten if there are more than three."""
    positive = [value for value in values if math.isfinite(value) and value > 0] or [1.0, 10.0]
    low, high = min(positive) / 1.08, max(positive) * 1.08
    first, last = math.floor(math.log10(low)), math.ceil(math.log10(high))
    factors = (1, 2, 5) if last - first <= 3 else (1,)
    places = [(factor, power) for power in range(first, last + 1) for factor in factors]
    ticks = [factor * 10.0 ** power for factor, power in places if low <= factor * 10.0 ** power <= high]
    return Scale(low=low, high=high, is_log=True,
                 ticks=tuple((tick, tick_text(tick, tick)) for tick in ticks))


def time_scale(values: Iterable[float]) -> Scale:
    """Return a scale for times: from zero, or logarithmic if the values are far apart."""
    positive = [value for value in values if math.isfinite(value) and value > 0]
    if positive and max(positive) > WIDE * min(positive):
        return log_scale(positive)
    return linear_scale(positive, has_zero=True)


def tick_text(value: float, step: float) -> str:
    """Return a tick's number, with as many decimals as the distance `step` of the ticks needs."""
    if value == 0:
        return "0"
    if step < SMALL or abs(value) >= LARGE:
        power = math.floor(math.log10(abs(value)) + 1e-9)
        return f"{round(value / 10.0 ** power, 2):g}e{power}"
    decimals = max(0, -math.floor(math.log10(step) + 1e-9))
    if abs(step * 10 ** decimals - round(step * 10 ** decimals)) > 1e-6:  # 2.5
        decimals += 1
    return f"{value:.{decimals}f}"
