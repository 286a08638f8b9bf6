"""Parity: two steps over the same audio, how far apart their scores are, and a verdict.

The reference is PyTorch fp32 with the published hidden-state cache and the bundle's own weights;
the candidate is the file that ships. Protocols and definitions: `DEFINITIONS`, which every
report carries.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from satexport.audio.clips import clip_hash
from satexport.audio.datasets import LabelledSet, load_set
from satexport.audio.synthetic import SYNTHETIC_CLASSES, synthetic_stream
from satexport.bundle.contract import RANDOM_WEIGHTS, USUAL_OPTIONS, Contract
from satexport.bundle.folder import Bundle
from satexport.bundle.gates import Gate, verdict
from satexport.bundle.target import Gates
from satexport.errors import DataError
from satexport.models.checkpoint import find_weights
from satexport.models.families import make_reference
from satexport.models.family import Reference
from satexport.parity.differences import Differences, Drift, _difference_gate, compare, curve_of, drift_of
from satexport.parity.golden import proof_streams
from satexport.parity.metrics import average_precisions
from satexport.progress import progress
from satexport.step import EXECUTED
from satexport.tagging.stream import Streams, clip_chunks
from satexport.tagging.tagger import Tagger

DEFINITIONS = {
    "score difference": "absolute difference of one class's score in one chunk, candidate minus "
                        "PyTorch fp32, the cache carried from chunk to chunk on both sides",
    "top-1 agreement": "share of chunks in which both rank the same class first",
    "p50, p90, p99": "quantiles over the chunks of a chunk's mean score difference; curve: all of them",
    "drift": "after its minutes the stream hears its first sounds again; slope: mean score difference then "
             "minus that of the first time, over the chunks between; drift: slope times length over mean. "
             "Chunks in which the cache still remembers other sounds do not count. A line through the curve "
             "would say little: score differences differ from sound to sound",
    "streamed score": "the stream starts from silence at each clip, the last incomplete chunk is "
                      "padded with zeros, the scores of the clip's chunks are averaged",
    "clip score": "the paper's protocol, PyTorch only: one spectrogram per clip, the cache starting "
                  "empty, a last incomplete piece dropped, the pieces' scores averaged",
    "executed": EXECUTED,
    "mAP": "scikit-learn's average_precision_score, mean over the classes with a positive",
}
HEARD_AGAIN = 60  # s at the end of the stream, after as many chunks as a cache remembers
Advance = Callable[[], None]


@dataclass(frozen=True)
class SetParity:
    """A labelled set scored by both."""

    name: str
    clips: int
    differences: Differences
    pytorch_map: float
    bundle_map: float
    clip_protocol_map: float | None                # PyTorch, the paper's protocol, if it has one
    average_precision: dict[str, tuple[float, float]]  # class -> PyTorch, bundle
    origin: dict[str, object]


def run_parity(tagger: Tagger, data: str, folds: Sequence[int] | None, category_map: Path | None,
               checkpoint: str | None, minutes: float) -> tuple[list[Gate], dict[str, Any]]:
    """The bundle against PyTorch over a long stream and a labelled set.

    Returns the gates and the parts of the report. Raises `CheckpointError` where the weights are
    not found or are others, `DataError` where the set cannot be used.
    """
    labelled, why_not = labelled_set(tagger.bundle, data, folds, category_map)
    reference = make_reference(find_weights(tagger.bundle, checkpoint))
    lanes = len(proof_streams(tagger.step, tagger.contract))
    steps = sum(stream_steps(tagger.contract, minutes, lanes)) + (len(labelled.clips) if labelled else 0)
    with progress("parity", steps) as advance:
        # the set first: what is wrong with a clip shows before the long stream
        result = set_parity(reference, tagger, labelled, advance) if labelled else None
        stream, drift, curve = stream_parity(reference, tagger, minutes, advance)
    gates = tagger.bundle.target.gates
    differences = {f"{minutes:g} min of stream": stream}
    if result:
        differences[result.name] = result.differences
    judged = [_difference_gate(gates, name, found) for name, found in differences.items()]
    judged.append(_map_gate(gates, result, why_not))
    return judged, {"differences": {name: asdict(found) for name, found in differences.items()},
                    "drift": asdict(drift) if drift else None, "curve": curve.tolist(),
                    "set": asdict(result) if result else None}


def labelled_set(bundle: Bundle, data: str, folds: Sequence[int] | None,
                 category_map: Path | None) -> tuple[LabelledSet | None, str]:
    """The set that mAP is judged on, or None and why there is none. Raises `DataError` where the set
    cannot be used."""
    if bundle.contract.has_random_weights:
        if (data, folds, category_map) != ("synthetic", None, None):
            load_set(data, bundle.labels, folds=folds, category_map=category_map)  # bad input is said
        return None, "random weights: no mAP is claimed"
    if data == "synthetic" and not set(SYNTHETIC_CLASSES) <= set(bundle.labels):
        return None, "the model lacks labels of the synthetic set: pass --data"
    return load_set(data, bundle.labels, folds=folds, category_map=category_map), ""


def stream_steps(contract: Contract, minutes: float, streams: int) -> tuple[int, int]:
    """Steps in so many minutes, one at least, shared by the streams; and how many are heard again."""
    steps = max(1, int(minutes * 60 / contract.hop_seconds) // streams)
    return steps, min(steps, contract.memory_steps + int(HEARD_AGAIN // contract.hop_seconds))


def stream_parity(reference: Reference, tagger: Tagger, minutes: float,
                  advance: Advance) -> tuple[Differences, Drift | None, NDArray[np.float64]]:
    """Both over synthetic sounds, never reset: one stream of so many minutes, or as many streams as
    the bundle runs that share the minutes, and then the first of them again. Returns differences, drift
    and the curve of the differences, the chunks that are heard again at its end."""

    ours = proof_streams(tagger.step, tagger.contract)
    count, delay = len(ours), tagger.contract.hop_seconds
    chunks, again = stream_steps(tagger.contract, minutes, count)
    theirs = [reference_streams(reference, tagger.contract) for _ in range(count)]
    audio = synthetic_stream(chunks * count * delay, "evaluate", rate=tagger.contract.sample_rate)
    audio = audio.reshape(count, chunks, -1)
    pairs = []
    for number in (*range(chunks), *range(again)):
        heard = audio[:, number]
        expected = np.concatenate([s.feed(one[None])[0] for s, one in zip(theirs, heard, strict=True)])
        pairs.append((expected, ours.feed(heard)[0]))
        advance()
    both = np.concatenate([p[0] for p in pairs]), np.concatenate([p[1] for p in pairs])
    stream = both[0][:chunks * count], both[1][:chunks * count]
    curve = curve_of(*both, count)
    return compare(*stream, count), drift_of(curve, chunks, tagger.contract.memory_steps), curve


def set_parity(reference: Reference, tagger: Tagger, data: LabelledSet,
               advance: Advance) -> SetParity:
    """Both over a labelled set by streamed score, and PyTorch by the paper's protocol."""

    ours, theirs = proof_streams(tagger.step, tagger.contract), reference_streams(reference, tagger.contract)
    calibrated_on = tagger.bundle.calibrated_on()
    rows = []
    for first in range(0, len(data.clips), len(ours)):
        clips = data.clips[first:first + len(ours)]
        audios = [clip.read(tagger.contract.sample_rate) for clip in clips]
        for clip, audio in zip(clips, audios, strict=True):
            if calibrated_on and clip_hash(audio) in calibrated_on:
                raise DataError(f"{clip.name} of {data.name} is one of the clips that {tagger.bundle.path} "
                                "was calibrated on; a clip that gates may not be. Choose other folds.")
        for audio, heard in zip(audios, clip_chunks(ours, audios), strict=True):
            rows.append((clip_chunks(theirs, [audio])[0], heard, reference.clip_scores(audio)))
            advance()
    truth = data.truth(tagger.labels)
    expected = average_precisions(truth, np.stack([r[0].mean(0) for r in rows]), tagger.labels)
    scores = np.stack([r[1].mean(0) for r in rows])
    found = (average_precisions(truth, scores, tagger.labels) if np.isfinite(scores).all()
             else dict.fromkeys(expected, float("nan")))  # a bundle gone wrong: fails its gates
    by_paper = [r[2] for r in rows if r[2] is not None]
    paper = average_precisions(truth, np.stack(by_paper), tagger.labels) if by_paper else None
    return SetParity(
        data.name, len(rows),
        compare(np.concatenate([r[0] for r in rows]), np.concatenate([r[1] for r in rows])),
        _mean(expected), _mean(found), _mean(paper) if paper else None,
        {label: (expected[label], found[label]) for label in expected}, data.origin)


def _mean(average_precision: dict[str, float]) -> float:
    return float(np.mean(list(average_precision.values())))


def _map_gate(gates: Gates, result: SetParity | None, why_not: str) -> Gate:
    """Does the bundle keep the target's share of PyTorch's mAP? Skipped, never passed, where it
    could not be judged."""
    limit = gates.map_kept
    if result is None:
        return Gate("mAP kept", "skipped", None, limit, why_not)
    kept = result.bundle_map / result.pytorch_map
    return Gate("mAP kept", "passed" if kept >= limit else "failed", kept, limit,
                f"{result.bundle_map:.4f} of {result.pytorch_map:.4f}, at least {limit:.1%}{_on(result)}")


def _on(result: SetParity) -> str:
    """", on fold 4 of ESC-50" where only some folds of a set gate."""
    folds: Any = result.origin.get("folds")
    return f", on fold {', '.join(folds)} of {result.name}" if folds else ""


def parity_report(tagger: Tagger, gates: Sequence[Gate], parts: dict[str, Any]) -> dict[str, Any]:
    """The report as JSON, without its origin."""
    contract = tagger.contract
    return {
        "kind": "parity", "verdict": verdict(gates), "variant": contract.variant,
        "target": f"{tagger.bundle.target.name}{contract.options.suffix}",
        "bundle_sha256": tagger.bundle.sha256,
        "checkpoint": asdict(contract.checkpoint),
        "executed": tagger.step.executed(),
        "warning": RANDOM_WEIGHTS if contract.has_random_weights else None,
        "gates": [asdict(gate) for gate in gates], **parts, "definitions": DEFINITIONS,
    }


def reference_streams(step: Reference, contract: Contract, count: int = 1) -> Streams:
    """PyTorch beside a graph: it hears audio, whatever the graph takes."""
    return Streams(step, replace(contract, options=USUAL_OPTIONS), count)
