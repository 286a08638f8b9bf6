"""Parity: run two steps over the same audio, compare their outputs and judge the differences.

The reference is PyTorch fp32 with the published hidden-state cache and the bundle's weights; the candidate is
the file that ships. `satexport.report.figures` defines the figures and protocols, and every report contains
their definitions.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from satexport.audio.clips import clip_hash, clip_seconds
from satexport.audio.datasets import LabelledSet, load_set
from satexport.audio.synthetic import SYNTHETIC_CLASSES, synthetic_stream
from satexport.bundle.contract import Contract
from satexport.bundle.folder import Bundle
from satexport.bundle.thresholds import Thresholds
from satexport.errors import DataError
from satexport.models.checkpoint import find_weights
from satexport.models.families import make_reference
from satexport.parity.differences import (
    Differences,
    Drift,
    EmbeddingDifferences,
    compare,
    compare_embeddings,
    compute_drift,
    difference_curve,
    judge_difference,
    judge_embedding,
)
from satexport.parity.event_metrics import compare_events
from satexport.parity.golden import proof_streams
from satexport.parity.metric_gates import judge_map, judge_metrics
from satexport.parity.metrics import average_precisions, bootstrap, check_scores, set_metrics
from satexport.parity.operating_points import check_other_clips
from satexport.parity.pytorch import BATCH, PyTorch
from satexport.parity.records import ParityResult, SetParity
from satexport.progress import progress
from satexport.step import FloatArray, Outputs
from satexport.tagging.stream import clip_outputs
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
               checkpoint: str | None = None, pytorch: PyTorch | None = None) -> ParityResult:
    """Compare a bundle with PyTorch over `minutes` of stream and a labelled set, by default the synthetic
    one. `checkpoint` is the file of the bundle's weights; None finds it by its SHA-256. `pytorch` has these
    weights already, and the outputs of earlier comparisons.

    Raises `CheckpointError` if the weights are not found or are not the bundle's, `DataError` if a clip
    cannot be used.
    """
    gate_set = gate_set or find_gate_set(tagger.bundle)
    labelled = gate_set.labelled
    pytorch = pytorch or load_pytorch(tagger.bundle, checkpoint)
    # the set first: a bad clip fails before the long stream
    of_set = compare_on_set(pytorch, tagger, labelled, gate_set.thresholds) if labelled else None
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


def load_pytorch(bundle: Bundle, checkpoint: str | None = None) -> PyTorch:
    """Load the reference with a bundle's weights. Raises the errors of `find_weights`."""
    with progress("load PyTorch", None):
        weights = find_weights(bundle, checkpoint)
        return PyTorch(make_reference(weights, bundle.contract.options.embedding), bundle.contract)


def find_gate_set(bundle: Bundle, data: str = "synthetic", folds: Sequence[int] | None = None,
                  category_map: Path | None = None) -> GateSet:
    """Return the set to judge a bundle's mAP on. Raises `DataError` if the set cannot be used."""
    if bundle.contract.has_random_weights:
        if (data, folds, category_map) != ("synthetic", None, None):
            load_set(data, bundle.labels, folds=folds, category_map=category_map)  # raises for bad input
        return GateSet(None, "random weights: no mAP is claimed")
    if data == "synthetic" and not set(SYNTHETIC_CLASSES) <= set(bundle.labels):
        return GateSet(None, "the model lacks labels of the synthetic set: pass --data")
    return GateSet(load_set(data, bundle.labels, folds=folds, category_map=category_map))


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


def compare_on_set(pytorch: PyTorch, tagger: Tagger, data: LabelledSet,
                   thresholds: Thresholds | None = None) -> SetParity:
    """Compare both over a labelled set by streamed score, and also score PyTorch by the protocol of the
    model's paper. If the set has strong labels, also compare the events in the scores, found with
    `thresholds` or from 0.5 on. Raises `DataError` if a clip cannot be read or the bundle was calibrated on
    it."""
    known, found = pytorch.of_set(data), list[Outputs]()   # of each clip: [chunks, ...]
    seconds = list[float]()                                # of each clip
    with progress(f"PyTorch and the bundle, {data.name}", len(data.clips)) as advance:
        for audios in _read_clips(tagger, data):
            seconds += [clip_seconds(audio, tagger.contract.sample_rate) for audio in audios]
            streams = proof_streams(tagger.step, tagger.contract)
            for first in range(0, len(audios), len(streams)):
                found += clip_outputs(streams, audios[first:first + len(streams)])
            if len(known.streamed) < len(found):
                pytorch.add_clips(known, audios)
            advance(len(audios))
    expected, paper, reference = known.streamed, known.by_paper, pytorch.reference
    truth, labels = data.truth(tagger.labels), tagger.labels
    expected_means, streamed = (
        np.stack([outputs.scores.mean(0) for outputs in each]) for each in (expected, found))
    check_scores(truth, expected_means, labels)  # broken weights are bad input, a broken bundle fails
    clip_protocol = average_precisions(truth, np.stack(paper), labels) if paper else None
    pytorch_outputs, bundle_outputs = (Outputs.join(np.concatenate, each) for each in (expected, found))
    return SetParity(
        name=data.name, clips=len(found),
        differences=compare(pytorch_outputs.scores, bundle_outputs.scores),
        embeddings=compare_embeddings(pytorch_outputs, bundle_outputs),
        pytorch=set_metrics(truth, expected_means, labels), bundle=set_metrics(truth, streamed, labels),
        intervals=bootstrap(truth, streamed, labels) if np.isfinite(streamed).all() else None,
        events=compare_events(data, tagger, [each.scores for each in expected],
                              [each.scores for each in found], seconds, thresholds),
        clip_protocol_map=float(np.mean(list(clip_protocol.values()))) if clip_protocol else None,
        clip_protocol=reference.clip_protocol, origin=data.origin)


def _read_clips(tagger: Tagger, data: LabelledSet) -> Iterator[list[FloatArray]]:
    """Yield the audio of some clips at a time. Raises `DataError` if the bundle was calibrated on one."""
    calibrated_on = tagger.bundle.calibrated_on()
    streams = len(proof_streams(tagger.step, tagger.contract))
    size = streams * -(-BATCH // streams)
    for first in range(0, len(data.clips), size):
        clips = data.clips[first:first + size]
        audios = [clip.read(tagger.contract.sample_rate) for clip in clips]
        for clip, audio in zip(clips, audios, strict=True):
            if calibrated_on and clip_hash(audio) in calibrated_on:
                raise DataError(f"{tagger.bundle.path} was calibrated on {clip.name} of {data.name}; a gate "
                                "needs clips that were not used for calibration. Choose other folds.")
        yield audios
