"""Mean average precision."""

from __future__ import annotations

import numpy as np
import pytest

from satexport.errors import DataError
from satexport.parity.metrics import average_precisions, top1_accuracy


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


def test_top_1_is_the_share_of_clips_whose_highest_label_is_right() -> None:
    truth = np.array([[1, 0, 0, 0], [0, 1, 0, 0], [1, 1, 0, 0], [0, 0, 1, 0]], bool)
    scores = np.array([[0.9, 0.1, 0.2, 0.3], [0.8, 0.4, 0.1, 0.2], [0.1, 0.6, 0.2, 0.3],
                       [0.1, 0.2, 0.5, 0.95]], np.float32)  # no clip has the last label, so it cannot win
    assert top1_accuracy(truth, scores) == 0.75
