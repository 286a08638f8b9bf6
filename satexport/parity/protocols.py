"""Parity: run two steps over the same audio, compare their outputs and judge the differences.

The reference is PyTorch fp32 with the published hidden-state cache and the bundle's weights; the candidate is
the file that ships. `satexport.report.figures` defines the figures and protocols, and every report contains
their definitions.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from satexport.audio.clips import clip_hash
from satexport.audio.datasets import LabelledSet, load_set
from satexport.audio.synthetic import SYNTHETIC_CLASSES, synthetic_stream
from satexport.bundle.contract import USUAL_OPTIONS, Contract
from satexport.bundle.folder import Bundle
from satexport.bundle.gates import Gate
from satexport.bundle.target import Gates
from satexport.errors import DataError
from satexport.models.checkpoint import find_weights
from satexport.models.families import make_reference
from satexport.models.family import Reference
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
from satexport.parity.golden import proof_streams
from satexport.parity.metrics import average_precisions, top1_accuracy
from satexport.parity.records import ParityResult, SetParity
from satexport.progress import progress
from satexport.step import Outputs
from satexport.tagging.stream import StreamBatch, clip_outputs
from satexport.tagging.tagger import Tagger

REPEATED_SECONDS = 60  # repeated at the end of the stream, after as many chunks as a cache remembers
Advance = Callable[[], None]


@dataclass(frozen=True, kw_only=True)
class StreamParity:
    """The comparison over a long stream."""

    differences: Differences
    embeddings: EmbeddingDifferences | None  # None: the bundle has none
    drift: Drift | None         # None: the stream is too short to tell
    curve: tuple[float, ...]    # mean score difference of each chunk, then of the chunks repeated at the end


@dataclass(frozen=True)
class GateSet:
    """The labelled set that mAP is judged on, or None and the reason."""

    labelled: LabelledSet | None
    why_not: str = ""


def run_parity(tagger: Tagger, *, minutes: float, gate_set: GateSet | None = None,
               checkpoint: str | None = None) -> ParityResult:
    """Compare a bundle with PyTorch over `minutes` of stream and a labelled set, by default the synthetic
    one. `checkpoint` is the file of the bundle's weights; None finds it by its SHA-256.

    Raises `CheckpointError` if the weights are not found or are not the bundle's, `DataError` if a clip
    cannot be used.
    """
    gate_set = gate_set or find_gate_set(tagger.bundle)
    labelled = gate_set.labelled
    reference = make_reference(find_weights(tagger.bundle, checkpoint), tagger.contract.options.embedding)
    lanes = len(proof_streams(tagger.step, tagger.contract))
    clips = len(labelled.clips) if labelled else 0
    with progress("parity", sum(count_stream_steps(tagger.contract, minutes, lanes)) + clips) as advance:
        # the set first: a bad clip fails before the long stream
        of_set = compare_on_set(reference, tagger, labelled, advance) if labelled else None
        stream = compare_on_stream(reference, tagger, minutes, advance)
    compared = {f"{minutes:g} min of stream": stream} | ({of_set.name: of_set} if of_set else {})
    limits = tagger.bundle.gates
    gates = [judge_difference(limits, name, part.differences) for name, part in compared.items()]
    gates += [gate for name, part in compared.items()
              for gate in judge_embedding(limits, tagger.contract, name, part.embeddings)]
    return ParityResult(
        gates=(*gates, judge_map(limits, of_set, gate_set.why_not)),
        differences={name: part.differences for name, part in compared.items()},
        embeddings={name: part.embeddings for name, part in compared.items() if part.embeddings} or None,
        curve=stream.curve, drift=stream.drift, labelled_set=of_set)


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


def compare_on_stream(reference: Reference, tagger: Tagger, minutes: float, advance: Advance) -> StreamParity:
    """Compare both over synthetic sounds, without a reset: one stream of `minutes`, or as many streams as the
    bundle runs that share the minutes, and then the first chunks of each again."""
    contract = tagger.contract
    candidate = proof_streams(tagger.step, contract)
    count = len(candidate)
    chunks, again = count_stream_steps(contract, minutes, count)
    references = [reference_streams(reference, contract) for _ in range(count)]
    audio = synthetic_stream(chunks * count * contract.hop_seconds, "evaluate", rate=contract.sample_rate)
    audio = audio.reshape(count, chunks, -1)
    expected, found = list[Outputs](), list[Outputs]()
    for number in (*range(chunks), *range(again)):
        chunk = audio[:, number]
        expected += [stream.feed_all(samples[None])
                     for stream, samples in zip(references, chunk, strict=True)]
        found.append(candidate.feed_all(chunk))
        advance()
    both = [Outputs.join(np.concatenate, parts).map(lambda array: array.reshape(-1, array.shape[-1]))
            for parts in (expected, found)]  # [chunks * N, ...] each
    first = [outputs.map(lambda array: array[:chunks * count]) for outputs in both]  # without the repetition
    curve = difference_curve(both[0].scores, both[1].scores, count)
    return StreamParity(
        differences=compare(first[0].scores, first[1].scores, count),
        embeddings=compare_embeddings(*first),
        drift=compute_drift(curve, chunks, contract.memory_steps), curve=tuple(curve.tolist()))


def compare_on_set(reference: Reference, tagger: Tagger, data: LabelledSet, advance: Advance) -> SetParity:
    """Compare both over a labelled set by streamed score, and also score PyTorch by the protocol of the
    model's paper. Raises `DataError` if a clip cannot be read or the bundle was calibrated on it."""
    candidate = proof_streams(tagger.step, tagger.contract)
    stream = reference_streams(reference, tagger.contract)
    calibrated_on = tagger.bundle.calibrated_on()
    expected, found, paper = [], [], []   # per clip: [chunks, ...] twice, [classes]
    for first in range(0, len(data.clips), len(candidate)):
        clips = data.clips[first:first + len(candidate)]
        audios = [clip.read(tagger.contract.sample_rate) for clip in clips]
        for clip, audio in zip(clips, audios, strict=True):
            if calibrated_on and clip_hash(audio) in calibrated_on:
                raise DataError(f"{tagger.bundle.path} was calibrated on {clip.name} of {data.name}; a gate "
                                "needs clips that were not used for calibration. Choose other folds.")
        found += clip_outputs(candidate, audios)
        for audio in audios:
            expected += clip_outputs(stream, [audio])
            clip_scores = reference.clip_scores(audio)
            paper += [] if clip_scores is None else [clip_scores]
            advance()

    truth, labels = data.truth(tagger.labels), tagger.labels
    expected_means, streamed = (
        np.stack([outputs.scores.mean(0) for outputs in each]) for each in (expected, found))
    pytorch = average_precisions(truth, expected_means, labels)
    bundle = (average_precisions(truth, streamed, labels) if np.isfinite(streamed).all()
              else dict.fromkeys(pytorch, float("nan")))  # a broken bundle fails its gates
    top1 = top1_accuracy(truth, streamed) if np.isfinite(streamed).all() else float("nan")
    clip_protocol = average_precisions(truth, np.stack(paper), labels) if paper else None
    pytorch_outputs, bundle_outputs = (Outputs.join(np.concatenate, each) for each in (expected, found))
    return SetParity(
        name=data.name, clips=len(found),
        differences=compare(pytorch_outputs.scores, bundle_outputs.scores),
        embeddings=compare_embeddings(pytorch_outputs, bundle_outputs),
        pytorch_map=_mean(pytorch), bundle_map=_mean(bundle),
        pytorch_top1=top1_accuracy(truth, expected_means), bundle_top1=top1,
        clip_protocol_map=_mean(clip_protocol) if clip_protocol else None,
        clip_protocol=reference.clip_protocol,
        average_precision={label: (pytorch[label], bundle[label]) for label in pytorch}, origin=data.origin)


def _mean(average_precision: dict[str, float]) -> float:
    return float(np.mean(list(average_precision.values())))


def judge_map(gates: Gates, result: SetParity | None, why_not: str) -> Gate:
    """Judge whether the bundle keeps the target's share of PyTorch's mAP. Without a result the gate is
    skipped, for the reason `why_not`."""
    limit, name = gates.map_kept, "mAP kept"
    if result is None:
        return Gate(name=name, status="skipped", value=None, limit=limit, note=why_not)
    kept = result.bundle_map / result.pytorch_map
    note = f"{result.bundle_map:.4f} of {result.pytorch_map:.4f}, at least {limit:.1%}{_on(result)}"
    return Gate(name=name, status="passed" if kept >= limit else "failed", value=kept, limit=limit, note=note)


def _on(result: SetParity) -> str:
    """Return ", on fold 4 of ESC-50" if only some folds of a set gate, else ""."""
    folds: Any = result.origin.get("folds")
    return f", on fold {', '.join(folds)} of {result.name}" if folds else ""


def reference_streams(step: Reference, contract: Contract, count: int = 1) -> StreamBatch:
    """Return streams of PyTorch to compare a graph with. They always take audio, even if the graph takes
    features."""
    return StreamBatch(step, replace(contract, options=USUAL_OPTIONS), count)
