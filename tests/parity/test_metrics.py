"""Metrics of a labelled set, and their confidence intervals."""

from __future__ import annotations

import math

import numpy as np
import pytest

from satexport.errors import DataError
from satexport.parity.metrics import average_precisions, bootstrap, curve, set_metrics, top1_accuracy


def test_average_precision_is_step_wise_and_over_classes_with_a_positive() -> None:
    truth = np.array([[0, 0, 0], [1, 1, 0], [1, 0, 0]], dtype=bool)
    scores = np.array([[0.9, 0.5, 0.1], [0.8, 0.6, 0.2], [0.7, 0.7, 0.3]])
    found = average_precisions(truth, scores, ["a", "b", "c"])
    assert found == pytest.approx({"a": (1 / 2 + 2 / 3) / 2, "b": 0.5})


@pytest.mark.parametrize(("truth", "scores", "words"), [
    (np.ones((2, 3)), np.ones((2, 2)), r"both must be \[clips, 3\]"),
    (np.ones((2, 3)), np.full((2, 3), np.nan), "NaN"),
    (np.zeros((2, 3)), np.ones((2, 3)), "no clip has a label")])
def test_scores_that_cannot_be_judged_are_refused(
        truth: np.ndarray, scores: np.ndarray, words: str) -> None:
    with pytest.raises(DataError, match=words):
        average_precisions(truth.astype(bool), scores, ["a", "b", "c"])


def test_top_1_is_the_share_of_clips_with_a_label_whose_highest_label_is_right() -> None:
    truth = np.array([[1, 0, 0, 0], [0, 1, 0, 0], [1, 1, 0, 0], [0, 0, 1, 0]], bool)
    scores = np.array([[0.9, 0.1, 0.2, 0.3], [0.8, 0.4, 0.1, 0.2], [0.1, 0.6, 0.2, 0.3],
                       [0.1, 0.2, 0.5, 0.95]], np.float32)  # no clip has the last label, so it cannot win
    assert top1_accuracy(truth, scores) == 0.75
    assert top1_accuracy(np.vstack((truth, np.zeros((4, 4), bool))), np.vstack((scores, scores))) == 0.75
    assert np.isnan(top1_accuracy(np.zeros((4, 4), bool), scores))


def test_a_weighted_curve_has_the_figures_of_scikit_learn_for_repeated_clips() -> None:
    from sklearn.metrics import average_precision_score, precision_recall_curve, roc_auc_score

    rng = np.random.default_rng(0)
    for count in range(2, 42):
        truth, scores = rng.random(count) < 0.4, (rng.integers(0, 9, count) / 9).astype(np.float32)
        truth[0] = True
        weights = rng.integers(0, 4, (count, 3)).astype(float)
        found = curve(truth, scores, weights)
        for column in range(3):
            clips = np.repeat(np.arange(count), weights[:, column].astype(int))
            expected = [math.nan] * 3
            if truth[clips].any():
                precision, recall, _ = precision_recall_curve(truth[clips], scores[clips])
                f1 = 2 * precision * recall / np.maximum(precision + recall, 1e-12)
                auc = math.nan if truth[clips].all() else roc_auc_score(truth[clips], scores[clips])
                expected = [average_precision_score(truth[clips], scores[clips]), auc, f1.max()]
            figures = [found.average_precision(), found.auc(), found.best_f1()]
            assert [figure[column] for figure in figures] == pytest.approx(expected, abs=1e-9, nan_ok=True)


TRUTH = np.array([[1, 0, 0], [0, 1, 0], [1, 1, 0], [0, 0, 0]], bool)
SCORES = np.array([[0.9, 0.1, 0.5], [0.3, 0.8, 0.5], [0.2, 0.7, 0.5], [0.1, 0.75, 0.5]], np.float32)


def test_the_metrics_of_a_set_are_means_over_its_classes() -> None:
    found = set_metrics(TRUTH, SCORES, ["a", "b", "c"])
    a, b = found.classes["a"], found.classes["b"]
    assert list(found.classes) == ["a", "b"]
    assert (a.average_precision, a.auc, a.best_f1) == pytest.approx((5 / 6, 0.75, 0.8))
    assert (b.average_precision, b.auc, b.best_f1) == pytest.approx((5 / 6, 0.75, 0.8))
    assert (found.map, found.auc, found.best_f1) == pytest.approx((5 / 6, 0.75, 0.8))
    assert found.d_prime == pytest.approx(0.9539, abs=1e-4)
    assert found.top1 == 1  # of the three clips with a label
    assert set_metrics(TRUTH[:3, 1:2], SCORES[:3, 1:2], ["b"]).d_prime == math.inf
    assert math.isnan(set_metrics(TRUTH[1:3, 1:2], SCORES[1:3, 1:2], ["b"]).d_prime)  # no negative clip


def test_the_calibration_error_is_that_of_the_bins_weighted_by_their_scores() -> None:
    # bins of 1/15: [0.10, 0.12] with a share of 1/2, [0.3] with 0, [1.0] with 1
    truth = np.array([[1], [0], [0], [1]], bool)
    scores = np.array([[0.10], [0.12], [0.3], [1.0]])
    expected = pytest.approx((2 * (0.5 - 0.11) + 0.3) / 4)
    assert set_metrics(truth, scores, ["a"]).ece == expected
    assert set_metrics(np.tile(truth, 2), np.tile(scores, 2), ["a", "b"]).ece == expected


def test_a_broken_bundle_has_no_metrics() -> None:
    found = set_metrics(TRUTH, np.full((4, 3), np.nan), ["a", "b", "c"])
    assert np.isnan([found.map, found.auc, found.best_f1, found.top1, found.ece, found.d_prime]).all()
    assert list(found.classes) == ["a", "b"]


def test_intervals_hold_what_other_clips_would_give() -> None:
    rng = np.random.default_rng(1)
    truth = rng.random((4000, 2)) < 0.3
    scores = np.clip(0.25 * truth + 0.25 + 0.15 * rng.standard_normal(truth.shape), 0, 1)
    whole, inside = set_metrics(truth, scores, ["a", "b"]), 0
    for part in range(20):
        rows = slice(200 * part, 200 * part + 200)
        found = bootstrap(truth[rows], scores[rows], ["a", "b"])
        for name, interval in found.all.items():
            assert interval.low < interval.high
            inside += interval.low <= getattr(whole, name) <= interval.high
        assert found.classes["a"]["auc"].low < set_metrics(truth[rows], scores[rows], ["a", "b"]).classes[
            "a"].auc < found.classes["a"]["auc"].high
    assert inside >= 80  # of 100; ECE has a bias for few clips
    again = bootstrap(truth[:200], scores[:200], ["a", "b"])
    assert again == bootstrap(truth[:200], scores[:200], ["a", "b"])
