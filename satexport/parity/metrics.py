"""Metrics over a labelled set, and their confidence intervals."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from satexport.errors import DataError, MissingError
from satexport.parity.records import (
    CONFIDENCE,
    RESAMPLES,
    SEED,
    ClassMetrics,
    Interval,
    Intervals,
    SetMetrics,
)

BINS = 15             # of the expected calibration error (Guo et al. 2017, On Calibration of Modern Networks)

Truth = NDArray[np.bool_]
Floats = NDArray[np.float64]


@dataclass(frozen=True, kw_only=True)
class Curve:
    """How the scores of one class rank the clips: a row for each score of a clip that has the class, highest
    first; a column for each weighting of the clips. A threshold at that score calls `called` clips positive,
    of which `correct` are."""

    correct: Floats    # [scores, weightings]
    called: Floats
    here: Floats       # of `correct`, those that have this very score
    called_here: Floats
    total: Floats      # [weightings], of all clips

    def average_precision(self) -> Floats:
        """[weightings]; NaN if no clip with the class has a weight."""
        with np.errstate(divide="ignore", invalid="ignore"):
            precision = np.where(self.called > 0, self.correct / self.called, 0)
            return np.asarray((self.here * precision).sum(0) / self.correct[-1])

    def auc(self) -> Floats:
        """[weightings]; the share of pairs that are in order, ties count half (Mann-Whitney). NaN if there
        is no pair."""
        negatives = self.total - self.correct[-1]
        above = self.called - self.correct - (self.called_here - self.here) / 2
        with np.errstate(divide="ignore", invalid="ignore"):
            return np.asarray((self.here * (negatives - above)).sum(0) / (self.correct[-1] * negatives))

    def best_f1(self) -> Floats:
        """[weightings]; NaN if no clip with the class has a weight."""
        with np.errstate(divide="ignore", invalid="ignore"):
            best = np.asarray((2 * self.correct / (self.called + self.correct[-1])).max(0))
        return np.where(self.correct[-1] > 0, best, np.nan)


def curve(truth: Truth, scores: NDArray[np.floating], weights: NDArray[np.floating]) -> Curve:
    """Return the curve of one class: truth [clips], at least one of them true, scores [clips], and weights
    [clips, weightings]."""
    order = np.argsort(-scores, kind="stable")
    positive, ranked, weight = truth[order], scores[order], weights[order]
    begins = np.flatnonzero(np.r_[True, ranked[1:] != ranked[:-1]])  # of equal scores
    ends = np.r_[begins[1:], len(ranked)]
    has_class = np.add.reduceat(positive, begins) > 0
    parts = np.unique(np.r_[0, begins[has_class], ends[has_class]])
    parts = parts[parts < len(ranked)]
    in_part = np.add.reduceat(weight, parts, axis=0, dtype=np.float64)
    wanted = np.searchsorted(parts, begins[has_class])
    own = weight[positive]
    first = np.searchsorted(np.flatnonzero(positive), begins[has_class])
    here = np.add.reduceat(own, first, axis=0, dtype=np.float64)
    return Curve(correct=here.cumsum(0), called=in_part.cumsum(0)[wanted], here=here,
                 called_here=in_part[wanted], total=np.asarray(weights.sum(0, dtype=np.float64)))


def average_precisions(truth: Truth, scores: NDArray[np.floating], labels: Sequence[str]) -> dict[str, float]:
    """Return the average precision of each label that has a positive clip; truth and scores are
    [clips, labels].

    It is scikit-learn's `average_precision_score`, without interpolation. Raises `DataError` if the shapes
    differ, a score is not finite or no clip is positive, `MissingError` if scikit-learn is not installed.
    """
    try:
        from sklearn.metrics import average_precision_score
    except ImportError as error:
        raise MissingError("mean average precision needs scikit-learn: "
                           "pip install 'satexport[export]'") from error
    truth, scores = np.asarray(truth, dtype=bool), np.asarray(scores)
    positive = check_scores(truth, scores, labels)
    return {labels[i]: float(average_precision_score(truth[:, i], scores[:, i]))
            for i in positive}


def check_scores(truth: Truth, scores: NDArray[np.floating], labels: Sequence[str]) -> list[int]:
    """Return the numbers of the labels that have a positive clip; truth and scores are [clips, labels].
    Raises `DataError` if the shapes differ, a score is not finite or no clip is positive."""
    if truth.shape != scores.shape or truth.shape[1:] != (len(labels),):
        raise DataError(f"truth is {truth.shape}, scores are {scores.shape}; both must be "
                        f"[clips, {len(labels)}].")
    if not np.isfinite(scores).all():
        raise DataError("some scores are NaN or infinite, expected finite scores: check the model's weights.")
    positive: list[int] = np.flatnonzero(truth.any(axis=0)).tolist()
    if not positive:
        raise DataError("no clip has a label; mean average precision needs at least one: check the labels of "
                        "the set.")
    return positive


def top1_accuracy(truth: Truth, scores: NDArray[np.floating]) -> float:
    """Return the share of the clips with a label whose highest score is that of one of their labels; NaN if
    there is none. Truth and scores are [clips, labels]. Only labels that have a positive clip compete: a set
    that knows dogs and rain says nothing about a model that also hears a leash."""
    return float(_top1(np.asarray(truth, dtype=bool), scores, np.ones((len(truth), 1)))[0])


def _top1(truth: Truth, scores: NDArray[np.floating], weights: NDArray[np.floating]) -> Floats:
    """[weightings]; NaN if no clip with a label has a weight."""
    highest = np.where(truth.any(axis=0), scores, -np.inf).argmax(axis=1)
    hits = truth[np.arange(len(truth)), highest]
    with np.errstate(invalid="ignore"):
        return np.asarray(hits @ weights / (truth.any(axis=1) @ weights))


def set_metrics(truth: Truth, scores: NDArray[np.floating], labels: Sequence[str]) -> SetMetrics:
    """Return the metrics of scores over a set; truth and scores are [clips, labels]. NaN for all of them if a
    score is not finite: a broken bundle fails its gates. Raises the errors of `average_precisions`."""
    truth = np.asarray(truth, dtype=bool)
    if not np.isfinite(scores).all():
        positive = check_scores(truth, np.zeros(scores.shape), labels)
        nothing = ClassMetrics(average_precision=math.nan, auc=math.nan, best_f1=math.nan)
        return SetMetrics(map=math.nan, auc=math.nan, best_f1=math.nan, top1=math.nan, ece=math.nan,
                          classes={labels[i]: nothing for i in positive})
    precisions = average_precisions(truth, scores, labels)
    found = _class_figures(truth, scores, np.ones((len(truth), 1)))[..., 0]
    top1, ece = (float(values[0]) for values in _pooled_figures(truth, scores, np.ones((len(truth), 1))))
    classes = {label: ClassMetrics(average_precision=precision, auc=auc, best_f1=best_f1)
               for (label, precision), (_, auc, best_f1) in zip(precisions.items(), found.tolist(),
                                                                strict=True)}
    return SetMetrics(map=float(np.mean(list(precisions.values()))), auc=float(_mean(found[:, 1])),
                      best_f1=float(found[:, 2].mean()), top1=top1, ece=ece, classes=classes)


def _class_figures(truth: Truth, scores: NDArray[np.floating], weights: NDArray[np.floating]) -> Floats:
    """Average precision, AUC and best F1 of each class that a clip has: [classes, 3, weightings]."""
    curves = (curve(truth[:, i], scores[:, i], weights) for i in np.flatnonzero(truth.any(axis=0)))
    return np.stack([np.stack((each.average_precision(), each.auc(), each.best_f1())) for each in curves])


def _pooled_figures(truth: Truth, scores: NDArray[np.floating],
                    weights: NDArray[np.floating]) -> tuple[Floats, Floats]:
    """Top-1 accuracy and expected calibration error, [weightings] each. The error is over the scores of all
    classes that a clip has: in each of `BINS` equal bins, the share of positives minus the mean score,
    absolute, weighted by the number of scores."""
    total = weights.sum(0)
    known = truth.any(axis=0)
    values, positive = scores[:, known].astype(np.float64), truth[:, known]
    number = np.minimum((values * BINS).astype(int), BINS - 1) + BINS * np.arange(len(values))[:, None]
    gap = np.bincount(number.ravel(), (positive - values).ravel(), BINS * len(values)).reshape(-1, BINS)
    return _top1(truth, scores, weights), np.asarray(np.abs(gap.T @ weights).sum(0) / (total * known.sum()))


def bootstrap(truth: Truth, scores: NDArray[np.floating], labels: Sequence[str]) -> Intervals:
    """Return the `CONFIDENCE` % intervals of the metrics: percentiles over `RESAMPLES` resamples of the
    clips. A resample without a clip of a class says nothing about that class. Truth and scores are
    [clips, labels], the scores finite."""
    truth, count = np.asarray(truth, dtype=bool), len(truth)
    draws = np.random.default_rng(SEED).integers(count, size=(RESAMPLES, count))
    weights = np.stack([np.bincount(draw, minlength=count) for draw in draws], axis=1).astype(np.float32)
    found = _class_figures(truth, scores, weights)        # [classes, 3, resamples]
    names = ("average_precision", "auc", "best_f1")
    top1, ece = _pooled_figures(truth, scores, weights)
    means = dict(zip(("map", "auc", "best_f1"), _mean(found), strict=True)) | {"top1": top1, "ece": ece}
    known = [labels[int(i)] for i in np.flatnonzero(truth.any(axis=0))]
    return Intervals(
        all={name: _interval(values) for name, values in means.items()},
        classes={label: {name: _interval(values) for name, values in zip(names, rows, strict=True)}
                 for label, rows in zip(known, found, strict=True)})


def _mean(figures: Floats) -> Floats:
    """The mean over the first axis of those that are defined; NaN if none is."""
    known = ~np.isnan(figures)
    with np.errstate(invalid="ignore"):
        return np.asarray(np.where(known, figures, 0).sum(0) / known.sum(0))


def _interval(values: Floats) -> Interval:
    """The middle `CONFIDENCE` % of the values that are defined; NaN if none is."""
    known = values[~np.isnan(values)]
    if not len(known):
        return Interval(low=math.nan, high=math.nan)
    low, high = np.percentile(known, (50 - CONFIDENCE / 2, 50 + CONFIDENCE / 2)).tolist()
    return Interval(low=low, high=high)
