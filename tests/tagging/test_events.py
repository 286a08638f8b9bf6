"""Events: where they begin and end, and that it does not matter how the scores arrive."""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import pairwise
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from satexport.bundle.thresholds import OperatingPoint
from satexport.errors import UsageError
from satexport.tagging.events import Event, EventFinder, EventOptions, Group, ended, find_events

LABELS = ("Dog", "Cat", "Siren")
HOP = 2.0  # s


def spans(scores: Sequence[float], labels: Sequence[str] = ("Dog",), **options: Any
          ) -> list[tuple[float, float | None]]:
    """Begin and end of the events of one label."""
    column = np.array(scores)[:, None]
    return [(event.begin, event.end) for event in find_events(labels, HOP, EventOptions(**options), column)]


def test_an_event_lasts_from_its_first_to_its_last_chunk_at_the_threshold() -> None:
    assert spans([0.1, 0.5, 0.9, 0.49, 0.6]) == [(2, 6), (8, 10)]


def test_an_event_that_began_goes_on_until_the_score_is_below_the_lower_threshold() -> None:
    assert spans([0.3, 0.7, 0.3, 0.3, 0.2, 0.3], on=0.6, off=0.3) == [(2, 8)]


def test_gaps_are_bridged_before_short_events_are_dropped() -> None:
    scores = [1, 0, 1, 0, 0, 1]
    assert spans(scores, bridge_seconds=2) == [(0, 6), (10, 12)]
    assert spans(scores, bridge_seconds=3.9) == [(0, 6), (10, 12)]
    assert spans(scores, bridge_seconds=4) == [(0, 12)]
    assert spans(scores, bridge_seconds=2, least_seconds=6) == [(0, 6)]
    assert spans(scores, least_seconds=2.1) == []


def test_the_median_removes_a_single_chunk_and_keeps_longer_sounds_where_they_are() -> None:
    assert spans([0, 1, 0, 0, 1, 1, 0, 1, 1, 1], smooth_chunks=3) == [(8, 20)]
    assert spans([1, 1, 0, 0], smooth_chunks=5) == [(0, 4)]  # both ends are repeated


def test_a_label_has_its_own_thresholds() -> None:
    options = EventOptions(on=0.5, thresholds={"Cat": OperatingPoint(on=0.8, off=0.7)})
    scores = [[0.6, 0.6, 0.6], [0.6, 0.9, 0.4], [0.6, 0.7, 0.4]]
    found = find_events(LABELS, HOP, options, scores)
    assert [(event.label, event.begin, event.end) for event in found] == [
        ("Siren", 0, 2), ("Dog", 0, 6), ("Cat", 2, 6)]


def test_a_group_has_the_highest_score_of_its_labels_and_is_on_while_any_of_them_is() -> None:
    options = EventOptions(groups={"Pet": Group(labels=("Dog", "Cat"))},
                           thresholds={"Cat": OperatingPoint(on=0.2)})
    found = find_events(LABELS, HOP, options, [[0.7, 0, 1], [0.4, 0.3, 1], [0.4, 0, 1]])
    assert [(event.label, event.begin, event.end) for event in found] == [("Pet", 0, 4)]
    assert found[0].score == pytest.approx(0.7)
    assert found[0].mean_score == pytest.approx(0.55)
    strict = EventOptions(groups={"Pet": Group(labels=("Dog", "Cat"), threshold=OperatingPoint(on=0.8))})
    assert find_events(LABELS, HOP, strict, [[0.7, 0, 1]]) == []


def test_score_and_level_are_those_of_the_chunks_of_the_event() -> None:
    options = EventOptions(bridge_seconds=2)
    scores = [[0.1], [0.6], [0.2], [0.9], [0.1], [0.1]]
    powers = [1, 0.04, 0.01, 0.01, 1, 1]
    event, = find_events(["Dog"], HOP, options, scores, powers)
    assert event.score == pytest.approx(0.9)
    assert event.mean_score == pytest.approx((0.6 + 0.2 + 0.9) / 3)
    assert event.level_dbfs == pytest.approx(10 * math.log10(0.02))
    assert find_events(["Dog"], HOP, options, [[1]], [0])[0].level_dbfs is None  # digital silence
    assert find_events(["Dog"], HOP, options, [[1]])[0].level_dbfs is None


def test_the_level_is_that_of_the_event_also_if_its_scores_are_smoothed() -> None:
    scores, powers = [[0], [0], [1], [1], [0], [0]], [1, 1, 0.01, 0.01, 1, 1]
    event, = find_events(["Dog"], HOP, EventOptions(smooth_chunks=3), scores, powers)
    assert event.level_dbfs == pytest.approx(-20)


def test_a_score_that_equals_the_threshold_reaches_it() -> None:
    assert spans([0.7, 0.69], on=0.7) == [(0, 2)]  # in float32, 0.7 is a little less


def test_an_event_ends_with_the_sound_within_its_last_chunk() -> None:
    event, = find_events(["Dog"], HOP, EventOptions(), [[0], [1]], end_seconds=3.5)
    assert (event.begin, event.end) == (2, 3.5)


@pytest.mark.parametrize("smooth", [1, 3])
def test_a_part_of_a_chunk_counts_for_the_level_by_its_length(smooth: int) -> None:
    scores, powers = [[0], [0], [1], [1], [1]], [0, 0, 0.1, 0.1, 0.5]
    event, = find_events(["Dog"], HOP, EventOptions(smooth_chunks=smooth), scores, powers, end_seconds=8.5)
    assert event.level_dbfs == pytest.approx(10 * math.log10((0.1 + 0.1 + 0.25 * 0.5) / 2.25))
    over, = find_events(["Dog"], HOP, EventOptions(smooth_chunks=smooth), [*scores, [0], [0]],
                        [*powers, 0, 0], end_seconds=12.5)
    assert over.level_dbfs == pytest.approx(10 * math.log10(0.7 / 3))


def test_a_part_of_a_chunk_behind_an_event_does_not_count_for_its_level() -> None:
    event, = find_events(["Dog"], HOP, EventOptions(bridge_seconds=4), [[1], [0]], [0.1, 0.5],
                         end_seconds=3.5)
    assert event.level_dbfs == pytest.approx(-10)


def test_an_event_is_reported_when_it_has_begun_and_when_it_has_ended() -> None:
    finder = EventFinder(["Dog"], HOP, EventOptions(least_seconds=4, bridge_seconds=2))
    reports = [[(event.begin, event.end) for event in finder.add([[score]])]
               for score in (1, 1, 0, 1, 0, 0, 1, 0, 0)]
    assert reports == [[], [(0, None)], [], [], [], [(0, 8)], [], [], []]
    assert finder.finish() == []


# However the chunks arrive.

def naive_spans(scores: Sequence[float], options: EventOptions) -> list[tuple[int, int]]:
    """Chunks of the events of one label, step by step over the whole sound."""
    half = options.smooth_chunks // 2
    padded = [scores[0]] * half + [*scores] + [scores[-1]] * half
    smooth = [sorted(padded[i:i + options.smooth_chunks])[half] for i in range(len(scores))]
    off = options.on if options.off is None else options.off
    states = [False]
    for score in smooth:
        states.append(score >= (off if states[-1] else options.on))
    edges = [i for i, (a, b) in enumerate(pairwise([*states, False])) if a != b]
    runs = [(begin, end) for begin, end in zip(edges[::2], edges[1::2], strict=True)]
    joined: list[tuple[int, int]] = []
    for begin, end in runs:
        if joined and (begin - joined[-1][1]) * HOP <= options.bridge_seconds:
            joined[-1] = joined[-1][0], end
        else:
            joined.append((begin, end))
    return [(begin, end) for begin, end in joined if (end - begin) * HOP >= options.least_seconds]


levels = st.sampled_from([0.1, 0.3, 0.5, 0.7, 0.9])
seconds = st.sampled_from([0.0, 1.0, 2.0, 3.0, 4.0, 6.0])


@settings(max_examples=150)
@given(scores=st.lists(st.tuples(levels, levels, levels), min_size=1, max_size=24),
       cuts=st.lists(st.integers(0, 24)), off=st.sampled_from([None, 0.3]), least=seconds, bridge=seconds,
       smooth=st.sampled_from([1, 3, 5]))
def test_the_events_are_the_same_for_any_split_and_those_of_the_definition(
        scores: list[tuple[float, ...]], cuts: list[int], off: float | None, least: float, bridge: float,
        smooth: int) -> None:
    options = EventOptions(on=0.6, off=off, least_seconds=least, bridge_seconds=bridge, smooth_chunks=smooth)
    powers = np.linspace(0.1, 1, len(scores)).tolist()
    finder, found = EventFinder(LABELS, HOP, options), list[Event]()
    for part in np.split(np.arange(len(scores)), sorted(cuts)):
        found += finder.add(np.array(scores, np.float32)[part].reshape(-1, 3), [powers[i] for i in part])
    found += finder.finish()
    assert ended(found) == find_events(LABELS, HOP, options, scores, powers)
    for number, label in enumerate(LABELS):
        exact = np.array(scores, np.float32)[:, number].tolist()
        assert [(event.begin, event.end) for event in ended(found) if event.label == label] == [
            (begin * HOP, end * HOP) for begin, end in naive_spans(exact, options)]
    began = [(event.label, event.begin) for event in found if event.end is None]
    assert sorted(began) == sorted((event.label, event.begin) for event in ended(found))


@settings(max_examples=100)
@given(scores=st.lists(levels, min_size=1, max_size=30), least=seconds, bridge=seconds,
       smooth=st.sampled_from([1, 3, 5]))
def test_no_report_is_later_than_the_stated_delay(
        scores: list[float], least: float, bridge: float, smooth: int) -> None:
    options = EventOptions(on=0.6, least_seconds=least, bridge_seconds=bridge, smooth_chunks=smooth)
    finder = EventFinder(["Dog"], HOP, options)
    for number, score in enumerate(scores):
        for event in finder.add([[score]]):
            now = (number + 1) * HOP
            if event.end is None:
                assert now - event.begin <= finder.delay_seconds.begin
            else:
                assert now - event.end <= finder.delay_seconds.end


def test_the_stated_delay_is_reached() -> None:
    finder = EventFinder(["Dog"], HOP, EventOptions(least_seconds=4, bridge_seconds=4))
    reports = [len(finder.add([[score]])) for score in (1, 0, 0, 1, 0, 0, 0)]
    assert reports == [0, 0, 0, 1, 0, 0, 1]
    assert finder.delay_seconds == (4 * HOP, 3 * HOP)


@pytest.mark.parametrize(("options", "begin", "end"), [
    ({}, 2, 2), ({"smooth_chunks": 5}, 6, 6), ({"least_seconds": 3}, 4, 2),
    ({"bridge_seconds": 4}, 2, 6), ({"bridge_seconds": 4, "least_seconds": 4, "smooth_chunks": 3}, 10, 8)])
def test_the_delay_follows_from_the_options(options: dict[str, Any], begin: float, end: float) -> None:
    assert EventFinder(LABELS, HOP, EventOptions(**options)).delay_seconds == (begin, end)


@pytest.mark.parametrize(("options", "message"), [
    ({"on": 0.0}, "the threshold is 0.0"), ({"on": math.nan}, "the threshold is nan"),
    ({"on": 0.4, "off": 0.5}, "at most 0.4"), ({"least_seconds": -1}, "the least length is -1"),
    ({"bridge_seconds": math.inf}, "the gap to bridge is inf"), ({"smooth_chunks": 2}, "an odd number")])
def test_options_out_of_range_are_refused(options: dict[str, Any], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        EventOptions(**options)
