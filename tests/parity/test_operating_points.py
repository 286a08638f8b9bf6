"""Thresholds from data."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from satexport.audio.datasets import LabelledSet
from satexport.audio.scenes import scene_set
from satexport.bundle.thresholds import Thresholds
from satexport.errors import DataError
from satexport.parity.operating_points import choose_threshold
from satexport.parity.protocols import GateSet

TRUTH = np.array([1, 1, 0, 1, 0, 0], bool)
SCORES = np.array([0.9, 0.8, 0.7, 0.6, 0.2, 0.1], np.float32)


def test_the_threshold_has_the_best_f1_and_lies_between_two_scores() -> None:
    point = choose_threshold(TRUTH, SCORES)
    assert point
    assert (point.on, point.f1, point.precision, point.recall, point.clips) == (0.4, 0.8571, 0.75, 1.0, 3)


@pytest.mark.parametrize(("precision", "on"), [(0.7, 0.4), (0.75, 0.4), (0.9, 0.75), (1.0, 0.75)])
def test_the_threshold_is_the_lowest_that_reaches_the_precision(precision: float, on: float) -> None:
    point = choose_threshold(TRUTH, SCORES, precision)
    assert point
    assert point.on == on


def test_a_precision_out_of_reach_gives_no_threshold() -> None:
    assert choose_threshold(TRUTH, SCORES[::-1], 0.9) is None
    assert choose_threshold(TRUTH, np.zeros(6, np.float32)) is None


@given(st.lists(st.tuples(st.booleans(), st.integers(1, 6)), min_size=1), st.none() | st.floats(0.1, 1))
def test_no_other_threshold_is_better(clips: list[tuple[bool, int]], precision: float | None) -> None:
    truth = np.array([clip[0] for clip in clips] + [True])
    scores = np.array([clip[1] / 7 for clip in clips] + [3 / 7], np.float32)
    figures = {}
    for threshold in np.unique(scores).tolist():
        called = scores >= threshold
        correct = (called & truth).sum()
        figures[threshold] = 2 * correct / (called.sum() + truth.sum()), correct / called.sum()
    point = choose_threshold(truth, scores, precision)
    if precision is None:
        assert point
        assert point.f1 == pytest.approx(max(f1 for f1, _ in figures.values()), abs=1e-4)
    else:
        reaching = [threshold for threshold, (_, share) in figures.items() if share >= precision]
        assert bool(reaching) == bool(point)
    if point:
        assert ((scores >= point.on) & truth).sum() == pytest.approx(point.recall * truth.sum(), abs=1e-2)
        if precision is not None:
            above = scores >= min(reaching)
            assert np.array_equal((scores >= point.on) & truth, above & truth)


ESC50 = {"kind": "esc50", "folder": "/data/esc", "folds": ["2", "3"]}
LIST = {"kind": "csv", "folder": "/data/a.csv"}
SCENES = scene_set()[1]


@pytest.mark.parametrize(("found", "gates", "is_refused"), [
    (ESC50, ESC50 | {"folds": ["3", "4"]}, True), (ESC50, ESC50 | {"folds": ["4"]}, False),
    (ESC50, ESC50 | {"folder": "/data/other"}, False), (LIST, LIST | {"folder": "/data/b.csv"}, False),
    (LIST, LIST | {"folder": "/data/b/../a.csv"}, True), (LIST, LIST | {"kind": "dcase"}, False),
    (SCENES, SCENES, True), (scene_set("choose")[1], SCENES, False), ({}, LIST, False)])
def test_clips_that_gate_are_refused_if_the_thresholds_were_found_on_them(
        found: dict[str, object], gates: dict[str, object], is_refused: bool) -> None:
    thresholds = Thresholds(labels_sha256="", origin=found)
    labelled = LabelledSet(name="these", clips=(), classes=(), origin=gates)
    assert GateSet(labelled).labelled == labelled
    if not is_refused:
        assert GateSet(labelled, thresholds=thresholds).thresholds == thresholds
        return
    with pytest.raises(DataError, match=r"found on clips of these that now gate.*Find them on other clips"):
        GateSet(labelled, thresholds=thresholds)
