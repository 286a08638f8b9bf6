"""Operating points: the threshold of each class, found on clips that do not gate. Imports only numpy and the
bundle's runtime."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np
from numpy.typing import NDArray

from satexport.audio.clips import Clip, clip_seconds
from satexport.audio.datasets import LabelledSet
from satexport.bundle.thresholds import OperatingPoint, Thresholds
from satexport.errors import DataError, UsageError
from satexport.origin import origin
from satexport.parity.event_metrics import true_events
from satexport.parity.golden import proof_streams
from satexport.parity.metrics import check_scores, curve
from satexport.parity.sed import SEGMENT_SECONDS, activity
from satexport.progress import progress
from satexport.step import FloatArray
from satexport.tagging.stream import clip_chunks
from satexport.tagging.tagger import Tagger

BATCH = 8   # clips that are read at a time


@dataclass(frozen=True, kw_only=True)
class FoundThresholds:
    """The thresholds, and the labels that keep the default."""

    thresholds: Thresholds
    without_clips: tuple[str, ...]      # no clip has them
    out_of_reach: tuple[str, ...]       # no threshold reaches the precision


def find_thresholds(tagger: Tagger, data: LabelledSet, precision: float | None = None) -> FoundThresholds:
    """Find the threshold of each class with the best F1 over the streamed scores of the clips or, with
    `precision`, the lowest one that reaches it. If the set has strong labels, it is found over segments of
    `SEGMENT_SECONDS` instead, each with the highest score of the chunks that it touches.

    Raises `UsageError` for random weights, `DataError` if a clip cannot be read or no clip has a label.
    """
    if tagger.contract.has_random_weights:
        raise UsageError(f"{tagger.bundle.path} has random weights: its scores mean nothing, and no "
                         "threshold fits them. Export a trained checkpoint.")
    by_chunk, seconds = zip(*score_clips(tagger, data), strict=True)
    if not data.has_events:
        scores = np.stack([chunks.mean(0) for chunks in by_chunk])
        return choose_thresholds(tagger, data.truth(tagger.labels), scores, data.origin, precision)
    return choose_on_segments(tagger, data.clips, by_chunk, seconds, data.origin, precision)


def choose_on_segments(tagger: Tagger, clips: Sequence[Clip], by_chunk: Sequence[FloatArray],
                       seconds: Sequence[float], data: dict[str, object],
                       precision: float | None = None) -> FoundThresholds:
    """Choose the threshold of each class over the segments of clips with strong labels. Of each clip there
    are the scores of its chunks, [chunks, classes], and its length; `data` says which clips."""
    labels = tagger.labels
    rows = [segment_scores(chunks, tagger.contract.hop_seconds, length)
            for chunks, length in zip(by_chunk, seconds, strict=True)]
    truth = [activity(events, len(labels), len(row))
             for events, row in zip(true_events(clips, labels), rows, strict=True)]
    return choose_thresholds(tagger, np.concatenate(truth), np.concatenate(rows), data, precision,
                             unit="segments")


def segment_scores(chunks: FloatArray, hop_seconds: float, seconds: float) -> FloatArray:
    """Return the highest score of the chunks that each segment of a clip of `seconds` touches,
    [segments, classes], from scores [chunks, classes]. The last chunk may last longer than the clip."""
    segments = int(np.ceil(seconds / SEGMENT_SECONDS))
    bounds = np.arange(segments + 1) * SEGMENT_SECONDS / hop_seconds
    return np.stack([chunks[int(np.floor(begin)):max(int(np.ceil(end)), 1)].max(0)
                     for begin, end in pairwise(bounds)])


def score_clips(tagger: Tagger, data: LabelledSet) -> Iterator[tuple[FloatArray, float]]:
    """Yield the scores of each clip's chunks, [chunks, classes], each clip from silence, and its length in
    seconds."""
    streams = proof_streams(tagger.step, tagger.contract)
    size = len(streams) * -(-BATCH // len(streams))
    with progress(f"the bundle, {data.name}", len(data.clips)) as advance:
        for first in range(0, len(data.clips), size):
            audios = [clip.read(tagger.contract.sample_rate) for clip in data.clips[first:first + size]]
            for begin in range(0, len(audios), len(streams)):
                some = audios[begin:begin + len(streams)]
                lengths = [clip_seconds(audio, tagger.contract.sample_rate) for audio in some]
                yield from zip(clip_chunks(streams, some), lengths, strict=True)
            advance(len(audios))


def choose_thresholds(tagger: Tagger, truth: NDArray[np.bool_], scores: FloatArray,
                      data: dict[str, object], precision: float | None = None,
                      unit: str = "clips") -> FoundThresholds:
    """Choose the threshold of each class; truth and scores are [clips or segments, classes], `data` says
    which, and `unit` is "clips" or "segments"."""
    labels = tagger.labels
    positive = check_scores(truth, scores, labels)
    found = {labels[i]: choose_threshold(truth[:, i], scores[:, i], precision, unit) for i in positive}
    points = {label: point for label, point in found.items() if point}
    return FoundThresholds(
        thresholds=Thresholds(labels_sha256=tagger.contract.labels_sha256, threshold=points,
                              origin=_origin(tagger, data, precision)),
        without_clips=tuple(label for label in labels if label not in found),
        out_of_reach=tuple(label for label, point in found.items() if not point))


def choose_threshold(truth: NDArray[np.bool_], scores: FloatArray,
                     precision: float | None = None, unit: str = "clips") -> OperatingPoint | None:
    """Choose the threshold of a class; truth and scores are [clips or segments]. Without `precision` it has
    the best F1, the highest one of equals; with it, it is the lowest that reaches it, or None if none does.
    It lies halfway between two scores, and what it gives is counted on them."""
    found = curve(truth, scores, np.ones((len(scores), 1)))
    correct, called = found.correct[:, 0], found.called[:, 0]
    values = np.unique(scores[truth])[::-1]  # of the rows of the curve
    usable = values > 0                      # as a threshold must be
    if precision is not None:
        usable &= correct / called >= precision
    if not usable.any():
        return None
    f1 = np.where(usable, 2 * correct / (called + correct[-1]), -1)
    row = int(f1.argmax()) if precision is None else int(np.flatnonzero(usable)[-1])
    lower = scores[scores < values[row]].max(initial=0)
    return OperatingPoint(
        on=_between(float(lower), float(values[row])), f1=round(float(f1[row]), 4),
        precision=round(float(correct[row] / called[row]), 4),
        recall=round(float(correct[row] / correct[-1]), 4), **{unit: int(truth.sum())})


def check_other_clips(thresholds: Thresholds, data: LabelledSet) -> None:
    """Raise `DataError` if the thresholds were found on clips of this set, as far as the origins of both
    tell: from the same folder or list, with a fold in common if it has folds, or from the same seeds. Two
    lists that name the same recordings are not noticed."""
    found, given = thresholds.origin, data.origin
    if found.get("kind") != given.get("kind"):
        return
    if "folder" in given:
        shared = found.get("folder") == os.path.realpath(str(given["folder"]))
    else:
        shared = all(found.get(key) == given.get(key) for key in ("split", "seeds"))
    folds, gating = found.get("folds"), given.get("folds")
    if isinstance(folds, list) and isinstance(gating, list):
        shared = shared and any(fold in folds for fold in gating)
    if shared:
        raise DataError(f"the thresholds were found on clips of {data.name} that now gate, and a clip that "
                        "gates is never used to choose thresholds. Find them on other clips, or pass other "
                        "--data.")


def _between(low: float, high: float) -> float:
    """A number of few digits that is more than `low` and at most `high`."""
    middle = (low + high) / 2
    for digits in range(2, 18):
        if low < (rounded := round(middle, digits)) <= high and rounded > 0:
            return rounded
    return high


def _origin(tagger: Tagger, data: dict[str, object], precision: float | None) -> dict[str, Any]:
    """How the thresholds were found, for the file: values that a TOML can hold."""
    facts = {key: value for key, value in data.items()
             if isinstance(value, str | int) or (isinstance(value, list) and len(value) <= 20)}
    if "folder" in data:
        facts["folder"] = os.path.realpath(str(data["folder"]))  # `check_other_clips` compares it
    return {"chosen_by": "best F1" if precision is None else f"lowest threshold with precision {precision:g}",
            **facts, "variant": tagger.contract.variant, "target": tagger.bundle.target.name,
            "bundle_sha256": tagger.bundle.sha256,
            "checkpoint_sha256": tagger.contract.checkpoint.sha256,
            "satexport": str(origin()["versions"]["satexport"])}
