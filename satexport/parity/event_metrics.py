"""Events in the scores of streams, compared with strong labels. They are found as `satexport run --events`
finds them. Imports only numpy.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from satexport.audio.clips import Clip
from satexport.bundle.thresholds import DEFAULT, Thresholds
from satexport.parity.records import EventMetrics, EventParity
from satexport.parity.sed import (
    COLLAR_SECONDS,
    SEGMENT_SECONDS,
    Matches,
    Span,
    match_onsets,
    match_segments,
)
from satexport.step import FloatArray
from satexport.tagging.events import EventOptions, find_events

Counts = NDArray[np.float64]   # [2 (segments, onsets), 3 (correct, true, estimated), labels]


@dataclass(frozen=True, kw_only=True)
class EventRules:
    """What counts as an event in the scores of chunks."""

    labels: tuple[str, ...]
    hop_seconds: float
    options: EventOptions       # without groups
    collar_seconds: float = COLLAR_SECONDS


def find_rules(labels: Sequence[str], hop_seconds: float, thresholds: Thresholds | None) -> EventRules:
    """Return the rules of a thresholds file; without one, a label is heard from a score of 0.5 on."""
    options = EventOptions() if thresholds is None else thresholds_options(thresholds)
    return EventRules(labels=tuple(labels), hop_seconds=hop_seconds, options=options)


def compare_counts(counts: Sequence[Counts], events: int, thresholds: Thresholds | None) -> EventParity:
    """Return the comparison of PyTorch and a bundle from the `count_events` of each. `events` is the number
    of true ones."""
    by = f"{DEFAULT:g}" if thresholds is None else str(thresholds.origin.get("chosen_by", "from a file"))
    of_pytorch, of_bundle = map(metrics_of, counts)
    return EventParity(events=events, segment_seconds=SEGMENT_SECONDS, collar_seconds=COLLAR_SECONDS,
                       thresholds=by, pytorch=of_pytorch, bundle=of_bundle)


def thresholds_options(thresholds: Thresholds) -> EventOptions:
    """What counts as an event by the content of a thresholds file."""
    return EventOptions(on=thresholds.on, off=thresholds.off, thresholds=thresholds.threshold)


def true_events(clips: Sequence[Clip], labels: Sequence[str]) -> list[list[Span]]:
    """The strong labels of each clip."""
    number = {label: i for i, label in enumerate(labels)}
    return [[(event.onset, event.offset, number[event.label]) for event in clip.events or ()]
            for clip in clips]


def count_events(truth: Sequence[Sequence[Span]], scores: Sequence[FloatArray], seconds: Sequence[float],
                 rules: EventRules, judged: Sequence[int]) -> Counts:
    """Count segments and onsets over clips: correct, true and estimated ones of each label,
    [2, 3, labels]. Counts of several clips add up. NaN if a score is not finite.

    Of each clip there are the true events, the scores [chunks, classes] and the length in seconds, behind
    which nothing is compared. Only labels whose numbers are `judged` are looked for."""
    labels, number = len(rules.labels), {rules.labels[i]: i for i in judged}
    total = np.zeros((2, 3, labels))
    if not judged:
        return total
    for events, chunks, end in zip(truth, scores, seconds, strict=True):
        if not np.isfinite(chunks).all():
            return np.full_like(total, np.nan)
        found = find_events(list(number), rules.hop_seconds, rules.options, chunks[:, list(number.values())],
                            end_seconds=end)
        spans = [(event.begin, event.end or end, number[event.label]) for event in found]
        total += [(matches.correct, matches.truth, matches.estimate) for matches in (
            match_segments(events, spans, labels, seconds=end),
            match_onsets(events, spans, labels, collar_seconds=rules.collar_seconds))]
    return total


def metrics_of(counts: Counts) -> EventMetrics:
    """Return F1 from the `count_events` over a set. Only labels that the truth has are judged, as in sets
    that label some sounds only; NaN if it has none."""
    known = counts[1, 1] > 0  # an onset of each true event
    if not known.any():
        return EventMetrics(segment_f1=math.nan, segment_f1_macro=math.nan, onset_f1=math.nan,
                            onset_f1_macro=math.nan)
    segments, onsets = (Matches(**{name: row[known].astype(np.int64) for name, row in zip(
        ("correct", "truth", "estimate"), rows, strict=True)}) for rows in counts)
    return EventMetrics(segment_f1=segments.micro, segment_f1_macro=segments.macro, onset_f1=onsets.micro,
                        onset_f1_macro=onsets.macro)


def judged_labels(truth: Sequence[Sequence[Span]]) -> list[int]:
    """The numbers of the labels that have an event."""
    return sorted({event[2] for events in truth for event in events})


def event_metrics(truth: Sequence[Sequence[Span]], scores: Sequence[FloatArray], seconds: Sequence[float],
                  labels: Sequence[str], hop_seconds: float, options: EventOptions,
                  collar_seconds: float = COLLAR_SECONDS) -> EventMetrics:
    """F1 over clips, as `count_events` and `metrics_of`."""
    rules = EventRules(labels=tuple(labels), hop_seconds=hop_seconds, options=options,
                       collar_seconds=collar_seconds)
    return metrics_of(count_events(truth, scores, seconds, rules, judged_labels(truth)))
