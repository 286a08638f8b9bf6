"""Parity: two steps over the same audio, how far apart their scores are, and a verdict.

The reference is PyTorch fp32 with the published hidden-state cache and the bundle's own weights;
the candidate is the file that ships. What the figures and protocols are stands in
`satexport.report.figures`, and in every report.
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
    compare,
    compute_drift,
    difference_curve,
    judge_difference,
)
from satexport.parity.golden import proof_streams
from satexport.parity.metrics import average_precisions
from satexport.parity.records import ParityResult, SetParity
from satexport.progress import progress
from satexport.tagging.stream import StreamBatch, clip_chunks
from satexport.tagging.tagger import Tagger

HEARD_AGAIN = 60  # s at the end of the stream, after as many chunks as a cache remembers
Advance = Callable[[], None]


@dataclass(frozen=True, kw_only=True)
class StreamParity:
    """A long stream scored by both."""

    differences: Differences
    drift: Drift | None         # None: the stream is too short to tell
    curve: tuple[float, ...]    # mean score difference of each chunk, then of those repeated at its end


@dataclass(frozen=True)
class GateSet:
    """The set that mAP is judged on, or None and why there is none."""

    labelled: LabelledSet | None
    why_not: str = ""


def run_parity(tagger: Tagger, *, minutes: float, gate_set: GateSet | None = None,
               checkpoint: str | None = None) -> ParityResult:
    """The bundle against PyTorch over so many minutes of stream and a labelled set, without one over the
    synthetic set.

    Raises `CheckpointError` if the weights are not found or are others, `DataError` if a clip cannot be used.
    """
    gate_set = gate_set or find_gate_set(tagger.bundle)
    labelled = gate_set.labelled
    reference = make_reference(find_weights(tagger.bundle, checkpoint))
    lanes = len(proof_streams(tagger.step, tagger.contract))
    steps = sum(stream_steps(tagger.contract, minutes, lanes)) + (len(labelled.clips) if labelled else 0)
    with progress("parity", steps) as advance:
        # the set first: what is wrong with a clip shows before the long stream
        scored = set_parity(reference, tagger, labelled, advance) if labelled else None
        stream = stream_parity(reference, tagger, minutes, advance)
    limits = tagger.bundle.target.gates
    differences = {f"{minutes:g} min of stream": stream.differences}
    if scored:
        differences[scored.name] = scored.differences
    gates = [judge_difference(limits, name, apart) for name, apart in differences.items()]
    return ParityResult(gates=(*gates, judge_map(limits, scored, gate_set.why_not)), differences=differences,
                        curve=stream.curve, drift=stream.drift, labelled_set=scored)


def find_gate_set(bundle: Bundle, data: str = "synthetic", folds: Sequence[int] | None = None,
                  category_map: Path | None = None) -> GateSet:
    """Return the set that a bundle's mAP is judged on. Raises `DataError` where it cannot be used."""
    if bundle.contract.has_random_weights:
        if (data, folds, category_map) != ("synthetic", None, None):
            load_set(data, bundle.labels, folds=folds, category_map=category_map)  # bad input is said
        return GateSet(None, "random weights: no mAP is claimed")
    if data == "synthetic" and not set(SYNTHETIC_CLASSES) <= set(bundle.labels):
        return GateSet(None, "the model lacks labels of the synthetic set: pass --data")
    return GateSet(load_set(data, bundle.labels, folds=folds, category_map=category_map))


def stream_steps(contract: Contract, minutes: float, streams: int) -> tuple[int, int]:
    """Steps in so many minutes, one at least, shared by the streams; and how many are heard again."""
    steps = max(1, int(minutes * 60 / contract.hop_seconds) // streams)
    return steps, min(steps, contract.memory_steps + int(HEARD_AGAIN // contract.hop_seconds))


def stream_parity(reference: Reference, tagger: Tagger, minutes: float, advance: Advance) -> StreamParity:
    """Both over synthetic sounds, never reset: one stream of so many minutes, or as many streams as
    the bundle runs that share the minutes, and then the first of them again."""
    contract = tagger.contract
    candidate = proof_streams(tagger.step, contract)
    count = len(candidate)
    chunks, again = stream_steps(contract, minutes, count)
    references = [reference_streams(reference, contract) for _ in range(count)]
    audio = synthetic_stream(chunks * count * contract.hop_seconds, "evaluate", rate=contract.sample_rate)
    audio = audio.reshape(count, chunks, -1)
    expected, scores = [], []
    for number in (*range(chunks), *range(again)):
        chunk = audio[:, number]
        expected += [stream.feed(samples[None])[0]
                     for stream, samples in zip(references, chunk, strict=True)]
        scores.append(candidate.feed(chunk)[0])
        advance()
    both = np.concatenate(expected), np.concatenate(scores)
    curve = difference_curve(*both, count)
    return StreamParity(
        differences=compare(both[0][:chunks * count], both[1][:chunks * count], count),
        drift=compute_drift(curve, chunks, contract.memory_steps), curve=tuple(curve.tolist()))


def set_parity(reference: Reference, tagger: Tagger, data: LabelledSet, advance: Advance) -> SetParity:
    """Both over a labelled set by streamed score, and PyTorch by the paper's protocol. Raises `DataError` if
    the bundle was calibrated on one of the clips."""
    candidate = proof_streams(tagger.step, tagger.contract)
    stream = reference_streams(reference, tagger.contract)
    calibrated_on = tagger.bundle.calibrated_on()
    expected, scores, paper = [], [], []   # per clip: [chunks, classes] twice, [classes]
    for first in range(0, len(data.clips), len(candidate)):
        clips = data.clips[first:first + len(candidate)]
        audios = [clip.read(tagger.contract.sample_rate) for clip in clips]
        for clip, audio in zip(clips, audios, strict=True):
            if calibrated_on and clip_hash(audio) in calibrated_on:
                raise DataError(f"{clip.name} of {data.name} is one of the clips that {tagger.bundle.path} "
                                "was calibrated on; a clip that gates may not be. Choose other folds.")
        scores += clip_chunks(candidate, audios)
        for audio in audios:
            expected += clip_chunks(stream, [audio])
            clip_scores = reference.clip_scores(audio)
            paper += [] if clip_scores is None else [clip_scores]
            advance()

    truth, labels = data.truth(tagger.labels), tagger.labels
    pytorch = average_precisions(truth, np.stack([rows.mean(0) for rows in expected]), labels)
    streamed = np.stack([rows.mean(0) for rows in scores])
    bundle = (average_precisions(truth, streamed, labels) if np.isfinite(streamed).all()
              else dict.fromkeys(pytorch, float("nan")))  # a bundle gone wrong: fails its gates
    clip_protocol = average_precisions(truth, np.stack(paper), labels) if paper else None
    return SetParity(
        name=data.name, clips=len(scores),
        differences=compare(np.concatenate(expected), np.concatenate(scores)),
        pytorch_map=_mean(pytorch), bundle_map=_mean(bundle),
        clip_protocol_map=_mean(clip_protocol) if clip_protocol else None,
        clip_protocol=reference.clip_protocol,
        average_precision={label: (pytorch[label], bundle[label]) for label in pytorch}, origin=data.origin)


def _mean(average_precision: dict[str, float]) -> float:
    return float(np.mean(list(average_precision.values())))


def judge_map(gates: Gates, result: SetParity | None, why_not: str) -> Gate:
    """Does the bundle keep the target's share of PyTorch's mAP? Skipped, never passed, if it could not be
    judged."""
    limit, name = gates.map_kept, "mAP kept"
    if result is None:
        return Gate(name=name, status="skipped", value=None, limit=limit, note=why_not)
    kept = result.bundle_map / result.pytorch_map
    note = f"{result.bundle_map:.4f} of {result.pytorch_map:.4f}, at least {limit:.1%}{_on(result)}"
    return Gate(name=name, status="passed" if kept >= limit else "failed", value=kept, limit=limit, note=note)


def _on(result: SetParity) -> str:
    """", on fold 4 of ESC-50" where only some folds of a set gate."""
    folds: Any = result.origin.get("folds")
    return f", on fold {', '.join(folds)} of {result.name}" if folds else ""


def reference_streams(step: Reference, contract: Contract, count: int = 1) -> StreamBatch:
    """PyTorch beside a graph: it hears audio, whatever the graph takes."""
    return StreamBatch(step, replace(contract, options=USUAL_OPTIONS), count)
