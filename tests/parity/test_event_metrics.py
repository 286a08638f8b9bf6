"""Events in scores, compared with strong labels."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from satexport.audio.clips import Clip, SoundEvent, clip_seconds
from satexport.audio.datasets import LabelledSet
from satexport.audio.scenes import scene_clips
from satexport.bundle.thresholds import OperatingPoint, Thresholds
from satexport.parity.event_metrics import (
    compare_counts,
    count_events,
    event_metrics,
    find_rules,
    judged_labels,
    thresholds_options,
    true_events,
)
from satexport.parity.groups import outputs_of
from satexport.parity.operating_points import find_thresholds
from satexport.parity.scores import segment_scores
from satexport.parity.sed import Span
from satexport.tagging.events import EventOptions
from satexport.tagging.tagger import Tagger

LABELS, RATE = ("a", "b", "c"), 16_000


def test_a_label_is_heard_in_the_chunks_whose_score_reaches_its_threshold() -> None:
    truth: list[list[Span]] = [[(2, 4, 0)], [(0, 1, 1)]]
    scores = [np.array([[0.1, 0.1, 0.9], [0.7, 0.1, 0.9]], np.float32),
              np.array([[0.2, 0.3, 0.9]], np.float32)]
    found = event_metrics(truth, scores, (4, 2), LABELS, 2.0, EventOptions())  # "c" is not in the set
    assert (found.segment_f1, found.segment_f1_macro) == (0.8, 0.5)
    assert (found.onset_f1, found.onset_f1_macro) == (2 / 3, 0.5)
    points = {"a": OperatingPoint(on=0.7), "b": OperatingPoint(on=0.3)}  # 0.7 is less in float32, as scores
    lower = event_metrics(truth, scores, (4, 2), LABELS, 2.0, EventOptions(thresholds=points))
    assert (lower.segment_f1, lower.onset_f1) == (6 / 7, 1.0)


def test_an_event_lasts_until_its_score_is_below_off() -> None:
    scores = [np.array([[0.9], [0.4], [0.4], [0.1]], np.float32)]
    thresholds = Thresholds(labels_sha256="", off=0.3)
    found = event_metrics([[(0, 6, 0)]], scores, (8,), ["a"], 2.0, thresholds_options(thresholds))
    assert (found.segment_f1, found.onset_f1) == (1, 1)


def test_nothing_is_compared_behind_the_end_of_a_clip() -> None:
    scores = [np.array([[0.1], [0.9]], np.float32)]  # the second chunk is padded by 1 s
    truth: list[list[Span]] = [[(2, 3, 0), (3.5, 3.8, 0)]]
    found = event_metrics(truth, scores, (3,), ["a"], 2.0, EventOptions())
    assert (found.segment_f1, found.segment_f1_macro) == (1, 1)
    assert clip_seconds(np.zeros(3 * RATE + 1, np.float32), RATE) == 3  # resampled


@pytest.mark.parametrize(("truth", "score"), [([(0, 1, 0)], np.nan), ([], 0.9)])
def test_scores_that_are_not_finite_and_a_truth_without_events_give_no_figure(
        truth: list[Span], score: float) -> None:
    found = event_metrics([truth], [np.array([[score]], np.float32)], (2,), ["a"], 2.0, EventOptions())
    assert np.isnan(list(vars(found).values())).all()


@pytest.mark.parametrize(("hop", "seconds", "expected"), [
    (2.0, 4, [1, 1, 3, 3]), (0.5, 1, [3]), (1.5, 3, [1, 3, 3]), (2.0, 2.5, [1, 1, 3]), (2.0, 3, [1, 1, 3])])
def test_a_segment_of_a_clip_has_the_highest_score_of_the_chunks_that_it_touches(
        hop: float, seconds: float, expected: list[int]) -> None:
    scores = np.array([[1], [3]], np.float32)
    assert segment_scores(scores, hop, seconds)[:, 0].tolist() == expected


@pytest.mark.long
def test_thresholds_found_on_some_scenes_raise_the_f1_on_others(tagger: Tagger) -> None:
    choosing, judging = (
        LabelledSet(name=split, clips=tuple(scene_clips(split, range(count))), classes=(), origin={})
        for split, count in (("choose", 6), ("evaluate", 3)))
    thresholds = find_thresholds(tagger, choosing).thresholds
    assert all(point.segments and point.clips is None for point in thresholds.threshold.values())
    audios = [clip.read(RATE) for clip in judging.clips]
    scores = [outputs.scores for outputs in outputs_of(tagger, audios)]
    truth = true_events(judging.clips, tagger.labels)
    at_half, at_found = (
        compare_counts([count_events(truth, scores, [60] * 3, find_rules(tagger.labels, 2.0, by),
                                     judged_labels(truth))] * 2, 3, by) for by in (None, thresholds))
    assert (at_half.thresholds, at_found.thresholds) == ("0.5", "best F1")
    assert at_found.bundle.segment_f1 > at_half.bundle.segment_f1 + 0.03
    assert at_half.bundle.segment_f1 > 0.7
    assert at_half.bundle.onset_f1 > 0


def test_a_set_in_which_a_clip_has_no_strong_labels_has_no_events() -> None:
    clip = Clip("a", ("a",), lambda _: [], (SoundEvent(0, 1, "a"),))
    both = LabelledSet(name="x", clips=(clip, replace(clip, events=None)), classes=(), origin={})
    assert true_events(both.clips, LABELS) == [[(0, 1, 0)], []]
    assert not both.has_events
    assert replace(both, clips=(clip,)).has_events
