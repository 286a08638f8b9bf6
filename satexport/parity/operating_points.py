"""Operating points: the threshold of each class, found on clips that do not gate. Imports only numpy and the
bundle's runtime."""

from __future__ import annotations

import base64
import os
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from satexport.audio.clips import Clip
from satexport.audio.datasets import LabelledSet
from satexport.bundle.thresholds import OperatingPoint, Thresholds
from satexport.errors import DataError, UsageError
from satexport.origin import origin
from satexport.parity.event_metrics import true_events
from satexport.parity.groups import Loaded
from satexport.parity.metrics import check_scores, curve
from satexport.parity.records import describe_left_out
from satexport.parity.scores import score_means, score_segments, segment_scores
from satexport.parity.scoring import HERE, SetOptions, score_set
from satexport.parity.sed import SEGMENT_SECONDS, activity
from satexport.step import FloatArray
from satexport.tagging.tagger import Tagger
from satexport.terminal import shown

HASH_BYTES = 6   # of a clip's hash, in a thresholds file: of a million pairs of sets of 18,000 clips, one has
                 # such a hash in common by chance


@dataclass(frozen=True, kw_only=True)
class FoundThresholds:
    """The thresholds, and the labels that keep the default."""

    thresholds: Thresholds
    without_clips: tuple[str, ...]      # no clip has them
    out_of_reach: tuple[str, ...]       # no threshold reaches the precision
    left_out: tuple[str, ...] = ()      # sentences on what is missing in the set


def find_thresholds(tagger: Tagger, data: LabelledSet, precision: float | None = None,
                    options: SetOptions = HERE) -> FoundThresholds:
    """Find the threshold of each class with the best F1 over the streamed scores of the clips or, with
    `precision`, the lowest one that reaches it. If the set has strong labels, it is found over segments of
    `SEGMENT_SECONDS` instead, each with the highest score of the chunks that it touches.

    Raises `UsageError` for random weights, `DataError` if a clip cannot be read, unless the options skip it,
    or no clip has a label.
    """
    if tagger.contract.has_random_weights:
        raise UsageError(f"{tagger.bundle.path} has random weights: its scores mean nothing, and no "
                         "threshold fits them. Export a trained checkpoint.")
    figure, function = ("segments", score_segments) if data.has_events else ("bundle", score_means)
    scored = score_set(function, Loaded(tagger, None), data, options, label=f"the bundle, {data.name}")
    scores, clips = scored.join(figure), scored.data.clips
    facts = scored.data.origin | {"clip_hashes": _short_hashes(scored.hashes)}
    if not data.has_events:
        return choose_thresholds(tagger, scored.data.truth(tagger.labels), scores, facts, precision)
    return choose_thresholds(tagger, _segment_truth(clips, scored.seconds, tagger.labels), scores, facts,
                             precision, unit="segments")


def _segment_truth(clips: Sequence[Clip], seconds: Sequence[float], labels: Sequence[str]
                   ) -> NDArray[np.bool_]:
    """Which label is active in which segment of the clips, one after the other: [segments, labels]."""
    return np.concatenate([activity(events, len(labels), int(np.ceil(length / SEGMENT_SECONDS)))
                           for events, length in zip(true_events(clips, labels), seconds, strict=True)])


def choose_on_segments(tagger: Tagger, clips: Sequence[Clip], by_chunk: Sequence[FloatArray],
                       seconds: Sequence[float], data: dict[str, object],
                       precision: float | None = None) -> FoundThresholds:
    """Choose the threshold of each class over the segments of clips with strong labels. Of each clip there
    are the scores of its chunks, [chunks, classes], and its length; `data` says which clips."""
    rows = [segment_scores(chunks, tagger.contract.hop_seconds, length)
            for chunks, length in zip(by_chunk, seconds, strict=True)]
    return choose_thresholds(tagger, _segment_truth(clips, seconds, tagger.labels), np.concatenate(rows),
                             data, precision, unit="segments")


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
        out_of_reach=tuple(label for label, point in found.items() if not point),
        left_out=tuple(describe_left_out(data)))


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
    lists that name the same recordings are noticed when these are read, by `used_clips`."""
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


def short_hash(clip_hash: str) -> bytes:
    """The part of a clip's hash that a thresholds file has: the first `HASH_BYTES` bytes."""
    return bytes.fromhex(clip_hash[:2 * HASH_BYTES])


def _short_hashes(clip_hashes: Sequence[str]) -> str:
    """The short hashes of clips, as a text for a thresholds file."""
    return base64.b64encode(b"".join(sorted(map(short_hash, clip_hashes)))).decode("ascii")


def used_clips(thresholds: Thresholds) -> frozenset[bytes]:
    """The short hashes of the clips that thresholds were found on, as far as their file has them. A clip has
    the same hash under any name, but another one at another sample rate. Raises `DataError` if they are
    damaged."""
    text = thresholds.origin.get("clip_hashes", "")
    try:
        joined = base64.b64decode(str(text), validate=True)
    except ValueError:
        joined = b"?"
    if len(joined) % HASH_BYTES:
        raise DataError(f"the thresholds file has {shown(text)} as clip_hashes in its table [origin]; "
                        "expected what `satexport thresholds` wrote. Find the thresholds again.")
    return frozenset(joined[first:first + HASH_BYTES] for first in range(0, len(joined), HASH_BYTES))


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
