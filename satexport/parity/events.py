"""Events in the scores of streams, compared with strong labels. Imports only numpy."""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import reduce
from operator import add

import numpy as np
from numpy.typing import NDArray

from satexport.audio.clips import Clip
from satexport.audio.datasets import LabelledSet
from satexport.bundle.thresholds import DEFAULT, Thresholds
from satexport.parity.records import EventMetrics, EventParity
from satexport.parity.sed import (
    COLLAR_SECONDS,
    SEGMENT_SECONDS,
    Event,
    events_of_chunks,
    match_onsets,
    match_segments,
)
from satexport.step import FloatArray
from satexport.tagging.tagger import Tagger


def compare_events(data: LabelledSet, tagger: Tagger, pytorch: Sequence[FloatArray],
                   bundle: Sequence[FloatArray], thresholds: Thresholds | None = None) -> EventParity | None:
    """Compare the events in the scores of PyTorch and of a bundle, for each clip [chunks, classes], with the
    strong labels of a set; None if it has none."""
    if not data.has_events:
        return None
    truth = true_events(data.clips, tagger.labels)
    on = np.full(len(tagger.labels), DEFAULT) if thresholds is None else thresholds.arrays(tagger.labels)[0]
    by = f"{DEFAULT:g}" if thresholds is None else str(thresholds.origin.get("chosen_by", "from a file"))
    hop = tagger.contract.hop_seconds
    return EventParity(
        events=sum(map(len, truth)), segment_seconds=SEGMENT_SECONDS, collar_seconds=COLLAR_SECONDS,
        thresholds=by, pytorch=event_metrics(truth, pytorch, on, hop),
        bundle=event_metrics(truth, bundle, on, hop))


def true_events(clips: Sequence[Clip], labels: Sequence[str]) -> list[list[Event]]:
    """The strong labels of each clip."""
    number = {label: i for i, label in enumerate(labels)}
    return [[(event.onset, event.offset, number[event.label]) for event in clip.events or ()]
            for clip in clips]


def event_metrics(truth: Sequence[Sequence[Event]], scores: Sequence[FloatArray],
                  on: NDArray[np.float64], hop_seconds: float,
                  collar_seconds: float = COLLAR_SECONDS) -> EventMetrics:
    """F1 over the clips. Their scores are [chunks, classes] each; `on` is the threshold of each class. A
    label is heard in a chunk if its score reaches its threshold, and an event is a run of such chunks. Only
    labels that the truth has are judged, as in sets that label some sounds only."""
    labels = len(on)
    if not all(np.isfinite(chunks).all() for chunks in scores):
        return EventMetrics(segment_f1=math.nan, segment_f1_macro=math.nan, onset_f1=math.nan,
                            onset_f1_macro=math.nan)
    known = np.zeros(labels, bool)
    known[[event[2] for events in truth for event in events]] = True
    found = [events_of_chunks((chunks >= on) & known, hop_seconds) for chunks in scores]
    pairs = list(zip(truth, found, strict=True))
    segments = reduce(add, (match_segments(*pair, labels) for pair in pairs))
    onsets = reduce(add, (match_onsets(*pair, labels, collar_seconds=collar_seconds) for pair in pairs))
    return EventMetrics(segment_f1=segments.micro, segment_f1_macro=segments.macro, onset_f1=onsets.micro,
                        onset_f1_macro=onsets.macro)
