"""Metrics of sound event detection: segment-based and onset-based F1, as the package sed_eval computes them
(Mesaros, Heittola and Virtanen 2016, Metrics for Polyphonic Sound Event Detection). Imports only numpy.

A label with events in the truth and none in the estimate counts 0 in the macro average (sed_eval's
`empty_system_output_handling = "zero_score"`; by default sed_eval leaves it out). A label without events in
the truth is not in the macro average, but its estimated events are errors in the micro average.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

SEGMENT_SECONDS = 1.0  # of the segment-based F1, as in the DCASE challenges
COLLAR_SECONDS = 0.2   # largest distance of two onsets that match, sed_eval's default

Span = tuple[float, float, int]  # an event: onset, offset, s, and the number of the label
Counts = NDArray[np.int64]        # [labels]


@dataclass(frozen=True, kw_only=True)
class Matches:
    """What was found of each label, in one file or in several: segments or events."""

    correct: Counts
    truth: Counts
    estimate: Counts

    def __add__(self, other: Matches) -> Matches:
        return Matches(correct=self.correct + other.correct, truth=self.truth + other.truth,
                       estimate=self.estimate + other.estimate)

    @property
    def micro(self) -> float:
        """F1 over all labels together; NaN if the truth has no event."""
        truth = self.truth.sum()
        return float(2 * self.correct.sum() / (truth + self.estimate.sum())) if truth else float("nan")

    @property
    def macro(self) -> float:
        """Mean F1 of the labels that the truth has; NaN if it has no event."""
        known = self.truth > 0
        if not known.any():
            return float("nan")
        return float((2 * self.correct[known] / (self.truth + self.estimate)[known]).mean())


def match_segments(truth: Sequence[Span], estimate: Sequence[Span], labels: int, *,
                   seconds: float | None = None, segment_seconds: float = SEGMENT_SECONDS) -> Matches:
    """Compare the events of a file in segments: a label is active in each segment that one of its events
    touches. `seconds` is the length that is compared; None: up to the last offset."""
    if seconds is None:
        seconds = max((offset for _, offset, _ in (*truth, *estimate)), default=0.0)
    segments = int(np.ceil(seconds / segment_seconds))
    a, b = (activity(events, labels, segments, segment_seconds) for events in (truth, estimate))
    return Matches(correct=(a & b).sum(0), truth=a.sum(0), estimate=b.sum(0))


def activity(events: Sequence[Span], labels: int, segments: int,
             segment_seconds: float = SEGMENT_SECONDS) -> NDArray[np.bool_]:
    """Return which label is active in which segment: [segments, labels]."""
    active = np.zeros((segments, labels), bool)
    for onset, offset, label in events:
        active[int(np.floor(onset / segment_seconds)):int(np.ceil(offset / segment_seconds)), label] = True
    return active


def match_onsets(truth: Sequence[Span], estimate: Sequence[Span], labels: int, *,
                 collar_seconds: float = COLLAR_SECONDS) -> Matches:
    """Compare the onsets of a file's events: as many pairs as possible of the same label, at most
    `collar_seconds` apart, no event in two pairs."""
    counts = np.zeros((3, labels), np.int64)
    for label in {event[2] for event in (*truth, *estimate)}:
        a, b = (sorted(event[0] for event in events if event[2] == label) for events in (truth, estimate))
        counts[:, label] = _count_pairs(a, b, collar_seconds), len(a), len(b)
    return Matches(correct=counts[0], truth=counts[1], estimate=counts[2])


def _count_pairs(a: Sequence[float], b: Sequence[float], most: float) -> int:
    """The largest number of disjoint pairs from two sorted lists whose distance is at most `most`. Taking
    the earliest ones is best, because all pairs have the same limit."""
    found = i = j = 0
    while i < len(a) and j < len(b):
        if abs(a[i] - b[j]) <= most:
            found, i, j = found + 1, i + 1, j + 1
        elif a[i] < b[j]:
            i += 1
        else:
            j += 1
    return found
