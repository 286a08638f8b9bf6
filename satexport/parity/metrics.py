"""Metrics of a labelled set."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from satexport.errors import DataError, MissingError


def average_precisions(truth: NDArray[np.bool_], scores: NDArray[np.floating],
                       labels: Sequence[str]) -> dict[str, float]:
    """Average precision of each label that has a positive; truth and scores [clips, labels].

    The step-wise one of scikit-learn. Raises `DataError` where the shapes differ, a score is
    NaN or nothing is positive, and `MissingError` without scikit-learn.
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
        raise DataError("some scores are NaN or infinite; a model that gives these is broken.")
    positive = np.flatnonzero(truth.any(axis=0)).tolist()
    if not positive:
        raise DataError("no clip has a label; mean average precision needs some.")
    return {labels[i]: float(average_precision_score(truth[:, i], scores[:, i]))
            for i in positive}
