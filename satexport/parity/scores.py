"""What is kept of the scores of a group: as little as the figures of a set need.

Parity, with PyTorch: `pytorch` and `bundle`, the mean scores [clips, classes] float32; `paper`, likewise, by
the protocol of the model's paper; `largest`, `mean` and `agree`, the `Gaps` [chunks]; if the bundle has
embeddings, `relative` and `cosine`, the `EmbeddingGaps` [chunks]; if the set has strong labels, `events`, the
`count_events` of both, [2, 2, 3, labels].

Thresholds: `bundle` or, if the set has strong labels, `segments` [segments, classes].
"""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise

import numpy as np

from satexport.parity.differences import find_embedding_gaps, find_gaps
from satexport.parity.event_metrics import count_events, true_events
from satexport.parity.groups import Array, Group, find_loaded, outputs_of, read_group
from satexport.parity.scoring import Task
from satexport.parity.sed import SEGMENT_SECONDS
from satexport.step import FloatArray, Outputs


def score_parity(task: Task) -> Group:
    """Read the clips of a task, and score them with PyTorch and the bundle."""
    loaded = find_loaded(task.scorers)
    tagger, pytorch = loaded.tagger, loaded.pytorch
    assert pytorch
    group, audios = read_group(task.number, task.clips, tagger.contract.sample_rate)
    if not audios:
        return group
    found, known = outputs_of(tagger, audios), pytorch.of_clips(audios, group.hashes)
    expected = known.streamed
    reference, candidate = (Outputs.join(np.concatenate, each) for each in (expected, found))
    embeddings = find_embedding_gaps(reference, candidate)
    figures: dict[str, Array] = {
        "pytorch": _means(expected), "bundle": _means(found),
        **vars(find_gaps(reference.scores, candidate.scores)), **(vars(embeddings) if embeddings else {})}
    if known.by_paper:
        figures["paper"] = np.stack(known.by_paper)
    if task.rules:
        truth = true_events([task.clips[position] for position in group.read], tagger.labels)
        figures["events"] = np.stack([
            count_events(truth, [outputs.scores for outputs in each], group.seconds, task.rules, task.judged)
            for each in (expected, found)])
    return replace(group, figures=figures)


def score_means(task: Task) -> Group:
    """Read the clips of a task, and score them with the bundle: the mean scores of each."""
    tagger = find_loaded(task.scorers).tagger
    group, audios = read_group(task.number, task.clips, tagger.contract.sample_rate)
    return replace(group, figures={"bundle": _means(outputs_of(tagger, audios))}) if audios else group


def score_segments(task: Task) -> Group:
    """The same for a set with strong labels: the scores of segments."""
    tagger = find_loaded(task.scorers).tagger
    group, audios = read_group(task.number, task.clips, tagger.contract.sample_rate)
    if not audios:
        return group
    rows = [segment_scores(outputs.scores, tagger.contract.hop_seconds, seconds)
            for outputs, seconds in zip(outputs_of(tagger, audios), group.seconds, strict=True)]
    return replace(group, figures={"segments": np.concatenate(rows)})


def _means(outputs: list[Outputs]) -> FloatArray:
    """The mean scores of clips, [clips, classes]."""
    return np.stack([each.scores.mean(0) for each in outputs])


def segment_scores(chunks: FloatArray, hop_seconds: float, seconds: float) -> FloatArray:
    """Return the highest score of the chunks that each segment of a clip of `seconds` touches,
    [segments, classes], from scores [chunks, classes]. The last chunk may last longer than the clip."""
    segments = int(np.ceil(seconds / SEGMENT_SECONDS))
    bounds = np.arange(segments + 1) * SEGMENT_SECONDS / hop_seconds
    return np.stack([chunks[int(np.floor(begin)):max(int(np.ceil(end)), 1)].max(0)
                     for begin, end in pairwise(bounds)])
