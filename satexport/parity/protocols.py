"""Parity: run two steps over the same audio, compare their outputs and judge the differences.

The reference is PyTorch fp32 with the published hidden-state cache and the bundle's weights; the candidate is
the file that ships. `satexport.report.figures` defines the figures and protocols, and every report contains
their definitions.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np

from satexport.audio.clips import Clip
from satexport.audio.datasets import LabelledSet, load_set
from satexport.audio.synthetic import SYNTHETIC_CLASSES, synthetic_stream
from satexport.bundle.contract import Contract
from satexport.bundle.folder import Bundle
from satexport.bundle.thresholds import Thresholds
from satexport.errors import DataError
from satexport.parity.differences import (
    Differences,
    Drift,
    EmbeddingDifferences,
    EmbeddingGaps,
    Gaps,
    compare,
    compare_embeddings,
    compute_drift,
    difference_curve,
    judge_difference,
    judge_embedding,
    summarize,
    summarize_embeddings,
)
from satexport.parity.event_metrics import compare_counts, find_rules, judged_labels, true_events
from satexport.parity.golden import proof_streams
from satexport.parity.groups import Loaded
from satexport.parity.metric_gates import judge_map, judge_metrics
from satexport.parity.metrics import average_precisions, bootstrap, check_scores, set_metrics
from satexport.parity.operating_points import check_other_clips, short_hash, used_clips
from satexport.parity.pytorch import PyTorch, load_pytorch
from satexport.parity.records import ParityResult, SetParity
from satexport.parity.scores import score_parity
from satexport.parity.scoring import HERE, SetOptions, score_set
from satexport.progress import progress
from satexport.step import Outputs
from satexport.tagging.tagger import Tagger

REPEATED_SECONDS = 60  # repeated at the end of the stream, after as many chunks as a cache remembers


@dataclass(frozen=True, kw_only=True)
class StreamParity:
    """The comparison over a long stream."""

    differences: Differences
    embeddings: EmbeddingDifferences | None  # None: the bundle has none
    drift: Drift | None         # None: the stream is too short to tell
    curve: tuple[float, ...]    # mean score difference of each chunk, then of the chunks repeated at the end


@dataclass(frozen=True)
class GateSet:
    """The labelled set that mAP is judged on, or None and the reason. Raises `DataError` if thresholds were
    found on its clips."""

    labelled: LabelledSet | None
    why_not: str = ""
    thresholds: Thresholds | None = None   # for events; None: 0.5

    def __post_init__(self) -> None:
        if self.thresholds and self.labelled:
            check_other_clips(self.thresholds, self.labelled)


def run_parity(tagger: Tagger, *, minutes: float, gate_set: GateSet | None = None,
               pytorch: PyTorch | None = None, options: SetOptions = HERE) -> ParityResult:
    """Compare a bundle with PyTorch over `minutes` of stream and a labelled set, by default the synthetic
    one, whose clips are scored as the options say. `pytorch` has the bundle's weights already, and the
    outputs of earlier comparisons.

    Raises `CheckpointError` if the weights are not found or are not the bundle's, `DataError` if a clip
    cannot be used.
    """
    gate_set = gate_set or find_gate_set(tagger.bundle)
    labelled = gate_set.labelled
    pytorch = pytorch or load_pytorch(tagger.bundle, options.checkpoint, keeps_clips=False)
    # the set first: a bad clip fails before the long stream
    of_set = compare_on_set(pytorch, tagger, labelled, gate_set.thresholds, options) if labelled else None
    stream = compare_on_stream(pytorch, tagger, minutes)
    compared = {f"{minutes:g} min of stream": stream} | ({of_set.name: of_set} if of_set else {})
    limits = tagger.bundle.gates
    gates = [judge_difference(limits, name, part.differences) for name, part in compared.items()]
    gates += [gate for name, part in compared.items()
              for gate in judge_embedding(limits, tagger.contract, name, part.embeddings)]
    return ParityResult(
        gates=(*gates, judge_map(limits, of_set, gate_set.why_not),
               *judge_metrics(limits, of_set, gate_set.why_not)),
        differences={name: part.differences for name, part in compared.items()},
        embeddings={name: part.embeddings for name, part in compared.items() if part.embeddings} or None,
        curve=stream.curve, drift=stream.drift, labelled_set=of_set)


def find_gate_set(bundle: Bundle, data: str = "synthetic", folds: Sequence[int] | None = None,
                  category_map: Path | None = None, *, may_miss_files: bool = False) -> GateSet:
    """Return the set to judge a bundle's mAP on. Raises `DataError` if the set cannot be used."""
    load = partial(load_set, data, bundle.labels, folds=folds, category_map=category_map,
                   may_miss_files=may_miss_files)
    if bundle.contract.has_random_weights:
        if (data, folds, category_map) != ("synthetic", None, None):
            load()  # raises for bad input
        return GateSet(None, "random weights: no mAP is claimed")
    if data == "synthetic" and not set(SYNTHETIC_CLASSES) <= set(bundle.labels):
        return GateSet(None, "the model lacks labels of the synthetic set: pass --data")
    return GateSet(load())


def count_stream_steps(contract: Contract, minutes: float, streams: int) -> tuple[int, int]:
    """Return the number of steps for `minutes` of audio, which the streams share (at least one), and how many
    of them are repeated at the end."""
    steps = max(1, int(minutes * 60 / contract.hop_seconds) // streams)
    return steps, min(steps, contract.memory_steps + int(REPEATED_SECONDS // contract.hop_seconds))


def compare_on_stream(pytorch: PyTorch, tagger: Tagger, minutes: float) -> StreamParity:
    """Compare both over synthetic sounds, without a reset: one stream of `minutes`, or as many streams as the
    bundle runs that share the minutes, and then the first chunks of each again."""
    contract, name = tagger.contract, f"{minutes:g} min of stream"
    candidate = proof_streams(tagger.step, contract)
    count = len(candidate)
    chunks, again = count_stream_steps(contract, minutes, count)
    with progress(f"synthesize {name}", None):
        audio = synthetic_stream(chunks * count * contract.hop_seconds, "evaluate", rate=contract.sample_rate)
        audio = audio.reshape(count, chunks, -1)
        audio = np.concatenate((audio, audio[:, :again]), axis=1)  # [N, chunks, samples]
    with progress(f"PyTorch, {name}", audio.shape[1] * count) as advance:
        expected = pytorch.of_streams(audio, advance)
    found = list[Outputs]()
    with progress(f"the bundle, {name}", audio.shape[1]) as advance:
        for chunk in audio.swapaxes(0, 1):
            found.append(candidate.feed_all(chunk))
            advance()
    both = [outputs.map(lambda array: array.reshape(-1, array.shape[-1]))
            for outputs in (expected, Outputs.join(np.concatenate, found))]  # [chunks * N, ...] each
    first = [outputs.map(lambda array: array[:chunks * count]) for outputs in both]  # without the repetition
    curve = difference_curve(both[0].scores, both[1].scores, count)
    return StreamParity(
        differences=compare(first[0].scores, first[1].scores, count),
        embeddings=compare_embeddings(*first),
        drift=compute_drift(curve, chunks, contract.memory_steps), curve=tuple(curve.tolist()))


def compare_on_set(pytorch: PyTorch, tagger: Tagger, data: LabelledSet, thresholds: Thresholds | None = None,
                   options: SetOptions = HERE) -> SetParity:
    """Compare both over a labelled set by streamed score, and also score PyTorch by the protocol of the
    model's paper. If the set has strong labels, also compare the events in the scores, found with
    `thresholds` or from 0.5 on. Raises `DataError` if a clip cannot be read, unless the options skip it, if
    the bundle was calibrated on one, or if the thresholds were found on one."""
    labels = tagger.labels
    rules = find_rules(labels, tagger.contract.hop_seconds, thresholds) if data.has_events else None
    scored = score_set(
        score_parity, Loaded(tagger, pytorch), data, options, label=f"PyTorch and the bundle, {data.name}",
        refuse=_refuse_used(tagger.bundle, data.name, thresholds), rules=rules,
        judged=judged_labels(true_events(data.clips, labels)) if rules else ())
    data = scored.data
    truth, expected, found = data.truth(labels), scored.join("pytorch"), scored.join("bundle")
    check_scores(truth, expected, labels)  # broken weights are bad input, a broken bundle fails
    figures = scored.groups[0].figures
    clip_protocol = average_precisions(truth, scored.join("paper"), labels) if "paper" in figures else None
    events = sum(len(clip.events or ()) for clip in data.clips)
    return SetParity(
        name=data.name, clips=len(data.clips),
        differences=summarize(Gaps(*map(scored.join, ("largest", "mean", "agree")))),
        embeddings=summarize_embeddings(EmbeddingGaps(*map(scored.join, ("relative", "cosine"))))
        if "relative" in figures else None,
        pytorch=set_metrics(truth, expected, labels), bundle=set_metrics(truth, found, labels),
        intervals=bootstrap(truth, found, labels) if np.isfinite(found).all() else None,
        events=compare_counts(np.sum(scored.each("events"), 0), events, thresholds) if rules else None,
        clip_protocol_map=float(np.mean(list(clip_protocol.values()))) if clip_protocol else None,
        clip_protocol=pytorch.reference.clip_protocol, origin=data.origin)


def _refuse_used(bundle: Bundle, name: str, thresholds: Thresholds | None) -> Callable[[Clip, str], None]:
    """Return a function that raises `DataError` for a clip of a set that was used for calibration or for
    thresholds."""
    calibrated_on = bundle.calibrated_on()
    found_on = used_clips(thresholds) if thresholds else frozenset()

    def refuse(clip: Clip, found: str) -> None:
        if found in calibrated_on:
            raise DataError(f"{bundle.path} was calibrated on {clip.name} of {name}; a gate needs clips that "
                            "were not used for calibration. Choose other folds.")
        if short_hash(found) in found_on:
            raise DataError(f"the thresholds were found on {clip.name} of {name}, which now gates, under "
                            "this or another name, and a clip that gates is never used to choose "
                            "thresholds. Find them on other clips, or pass other --data.")

    return refuse
