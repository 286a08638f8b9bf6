"""Events in the scores of streams, compared with strong labels. They are found as `satexport run --events`
finds them. Imports only numpy.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import reduce
from operator import add

import numpy as np

from satexport.audio.clips import Clip
from satexport.audio.datasets import LabelledSet
from satexport.bundle.thresholds import DEFAULT, Thresholds
from satexport.parity.records import EventMetrics, EventParity
from satexport.parity.sed import COLLAR_SECONDS, SEGMENT_SECONDS, Span, match_onsets, match_segments
from satexport.step import FloatArray
from satexport.tagging.events import EventOptions, find_events
from satexport.tagging.tagger import Tagger


def compare_events(data: LabelledSet, tagger: Tagger, pytorch: Sequence[FloatArray],
                   bundle: Sequence[FloatArray], seconds: Sequence[float],
                   thresholds: Thresholds | None = None) -> EventParity | None:
    """Compare the events in the scores of PyTorch and of a bundle, for each clip [chunks, classes], with the
    strong labels of a set; None if it has none. `seconds` is the length of each clip."""
    if not data.has_events:
        return None
    truth = true_events(data.clips, tagger.labels)
    options = EventOptions() if thresholds is None else thresholds_options(thresholds)
    by = f"{DEFAULT:g}" if thresholds is None else str(thresholds.origin.get("chosen_by", "from a file"))
    of_pytorch, of_bundle = (
        event_metrics(truth, scores, seconds, tagger.labels, tagger.contract.hop_seconds, options)
        for scores in (pytorch, bundle))
    return EventParity(
        events=sum(map(len, truth)), segment_seconds=SEGMENT_SECONDS, collar_seconds=COLLAR_SECONDS,
        thresholds=by, pytorch=of_pytorch, bundle=of_bundle)


def thresholds_options(thresholds: Thresholds) -> EventOptions:
    """What counts as an event by the content of a thresholds file."""
    return EventOptions(on=thresholds.on, off=thresholds.off, thresholds=thresholds.threshold)


def true_events(clips: Sequence[Clip], labels: Sequence[str]) -> list[list[Span]]:
    """The strong labels of each clip."""
    number = {label: i for i, label in enumerate(labels)}
    return [[(event.onset, event.offset, number[event.label]) for event in clip.events or ()]
            for clip in clips]


def event_metrics(truth: Sequence[Sequence[Span]], scores: Sequence[FloatArray], seconds: Sequence[float],
                  labels: Sequence[str], hop_seconds: float, options: EventOptions,
                  collar_seconds: float = COLLAR_SECONDS) -> EventMetrics:
    """F1 over the clips. Of each there are the true events, the scores [chunks, classes] and the length in
    seconds, behind which nothing is compared. Only labels that the truth has are judged, as in sets that
    label some sounds only; `options` has no groups."""
    known = sorted({event[2] for events in truth for event in events})
    if not known or not all(np.isfinite(chunks).all() for chunks in scores):
        return EventMetrics(segment_f1=math.nan, segment_f1_macro=math.nan, onset_f1=math.nan,
                            onset_f1_macro=math.nan)
    number = {labels[i]: i for i in known}
    segments, onsets = [], []
    for events, chunks, end in zip(truth, scores, seconds, strict=True):
        found = find_events(list(number), hop_seconds, options, chunks[:, known], end_seconds=end)
        spans = [(event.begin, event.end or end, number[event.label]) for event in found]
        segments.append(match_segments(events, spans, len(labels), seconds=end))
        onsets.append(match_onsets(events, spans, len(labels), collar_seconds=collar_seconds))
    over_segments, over_onsets = reduce(add, segments), reduce(add, onsets)
    return EventMetrics(segment_f1=over_segments.micro, segment_f1_macro=over_segments.macro,
                        onset_f1=over_onsets.micro, onset_f1_macro=over_onsets.macro)
