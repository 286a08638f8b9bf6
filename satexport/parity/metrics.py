"""Metrics over a labelled set."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from satexport.errors import DataError, MissingError


def average_precisions(truth: NDArray[np.bool_], scores: NDArray[np.floating],
                       labels: Sequence[str]) -> dict[str, float]:
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
    if truth.shape != scores.shape or truth.shape[1:] != (len(labels),):
        raise DataError(f"truth is {truth.shape}, scores are {scores.shape}; both must be "
                        f"[clips, {len(labels)}].")
    if not np.isfinite(scores).all():
        raise DataError("some scores are NaN or infinite, expected finite scores: check the model's weights.")
    positive = np.flatnonzero(truth.any(axis=0)).tolist()
    if not positive:
        raise DataError("no clip has a label; mean average precision needs at least one: check the labels of "
                        "the set.")
    return {labels[i]: float(average_precision_score(truth[:, i], scores[:, i]))
            for i in positive}


def top1_accuracy(truth: NDArray[np.bool_], scores: NDArray[np.floating]) -> float:
    """Return the share of clips whose highest score is that of one of their labels; truth and scores are
    [clips, labels]. Only labels that have a positive clip compete: a set that knows dogs and rain says
    nothing about a model that also hears a leash."""
    truth = np.asarray(truth, dtype=bool)
    competing = truth.any(axis=0)
    highest = np.where(competing, scores, -np.inf).argmax(axis=1)
    return float(truth[np.arange(len(truth)), highest].mean())
