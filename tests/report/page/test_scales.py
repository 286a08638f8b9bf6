"""Scales have round ticks, and charts thin long lines without losing a peak."""

from __future__ import annotations

import math

import pytest

from satexport.report.page.plot import BUCKETS, thin
from satexport.report.page.scales import linear_scale, log_scale, tick_text, time_scale


@pytest.mark.parametrize(("values", "ticks"), [
    ([0, 7.3], ["0", "2", "4", "6", "8"]),
    ([98.7, 100], ["98.5", "99.0", "99.5", "100.0"]),
    ([0, 6.1e-5], ["0", "2e-5", "4e-5", "6e-5", "8e-5"]),
    ([0, 299], ["0", "100", "200", "300"]),
])
def test_a_scale_begins_and_ends_with_a_round_tick(values: list[float], ticks: list[str]) -> None:
    scale = linear_scale(values)
    assert [text for _, text in scale.ticks] == ticks
    assert (scale.share(scale.low), scale.share(scale.high)) == (0, 1)
    assert scale.low <= min(values) <= max(values) <= scale.high


@pytest.mark.parametrize("values", [[], [math.nan], [math.inf, -math.inf], [0.0], [5.0, 5.0], [-3.0]])
def test_a_scale_of_few_or_strange_values_still_has_a_length(values: list[float]) -> None:
    for scale in (linear_scale(values), linear_scale(values, has_zero=True), log_scale(values),
                  time_scale(values)):
        assert scale.low < scale.high
        assert len(scale.ticks) >= 1
        assert all(0 <= scale.share(value) <= 1 for value in values if math.isfinite(value))


def test_times_that_are_far_apart_have_a_logarithmic_scale() -> None:
    assert time_scale([2.0, 3.0]).low == 0
    scale = time_scale([2.0, 250.0])
    assert scale.is_log
    assert [text for _, text in scale.ticks] == ["2", "5", "10", "20", "50", "100", "200"]
    assert scale.share(math.sqrt(scale.low * scale.high)) == pytest.approx(0.5)


def test_small_ticks_are_written_with_an_exponent_as_in_tables() -> None:
    assert [tick_text(value, 2.5e-5) for value in (2.5e-5, 1e-4)] == ["2.5e-5", "1e-4"]
    assert [tick_text(value, 2.5) for value in (2.5, 5.0)] == ["2.5", "5.0"]


def test_a_long_line_is_thinned_and_keeps_its_peaks() -> None:
    curve = [1.0] * 100_000
    curve[77_777], curve[5], curve[6] = 9.0, 0.0, math.nan
    points = list(thin(curve))
    assert len(points) <= 2 * BUCKETS
    assert points == sorted(points)
    assert (77_777, 9.0) in points
    assert (5, 0.0) in points
    assert list(thin(curve[:10]))[:6] == list(enumerate(curve[:6]))
