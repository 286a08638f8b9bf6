"""Differences between the outputs of two runs. Imports only numpy."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from satexport.bundle.contract import Contract
from satexport.bundle.gates import Gate
from satexport.bundle.target import Gates
from satexport.step import FloatArray, Outputs

RANDOM = "random weights: rounding errors grow in a network that nobody trained"


@dataclass(frozen=True, kw_only=True)
class Differences:
    """Statistics of the score differences over chunks."""

    chunks: int
    largest: float         # of any class in any chunk
    mean: float            # over classes and chunks
    top1_agreement: float  # share of chunks in which both rank the same class first
    p50: float             # quantiles over the chunks of a chunk's mean difference
    p90: float
    p99: float


@dataclass(frozen=True, kw_only=True)
class EmbeddingDifferences:
    """Statistics of the differences between embeddings over chunks. The relative difference of two embeddings
    is the norm of their difference / the norm of the reference."""

    worst_difference: float   # relative; of any chunk
    median_difference: float
    worst_cosine: float       # of the angle between the two; of any chunk
    median_cosine: float


@dataclass(frozen=True, kw_only=True)
class Drift:
    """How the score difference of the same sounds changes from the beginning of a stream to its end."""

    chunks: int    # chunks compared, of each stream
    first: float   # their mean score difference at the beginning of the stream
    again: float   # their mean score difference when repeated at its end
    slope: float   # (again - first) / chunks between the two
    drift: float   # slope * chunks of the stream / mean score difference


@dataclass(frozen=True)
class Gaps:
    """The score differences of each chunk, [chunks] each: all that `Differences` needs of them."""

    largest: NDArray[np.float64]   # of any class
    mean: NDArray[np.float64]      # over classes
    agree: NDArray[np.bool_]       # whether both rank the same class first


def find_gaps(reference: FloatArray, candidate: FloatArray) -> Gaps:
    """Return the differences of two runs over the same chunks, scores [chunks, classes] each."""
    gap = np.abs(candidate.astype(np.float64) - reference)
    return Gaps(gap.max(1), gap.mean(1), reference.argmax(1) == candidate.argmax(1))


def summarize(gaps: Gaps, streams: int = 1) -> Differences:
    """Return the statistics of differences. With several `streams`, the rows of one step, one per stream,
    must be adjacent."""
    curve = gaps.mean.reshape(-1, streams).mean(1)
    p50, p90, p99 = np.quantile(curve, (0.5, 0.9, 0.99)).tolist()
    return Differences(chunks=len(gaps.largest), largest=float(gaps.largest.max()), mean=float(curve.mean()),
                       top1_agreement=float(gaps.agree.mean()), p50=p50, p90=p90, p99=p99)


def compare(reference: FloatArray, candidate: FloatArray, streams: int = 1) -> Differences:
    """Return the statistics of two runs over the same chunks, as `find_gaps` and `summarize`."""
    return summarize(find_gaps(reference, candidate), streams)


@dataclass(frozen=True)
class EmbeddingGaps:
    """The differences of the embeddings of each chunk, [chunks] each."""

    relative: NDArray[np.float64]
    cosine: NDArray[np.float64]


def find_embedding_gaps(reference: Outputs, candidate: Outputs) -> EmbeddingGaps | None:
    """Return the differences of two runs over the same chunks, embeddings [..., size] each; None if the runs
    have none. An embedding of zeros differs from another one by infinity, and their cosine is 0."""
    if reference.embedding is None or candidate.embedding is None:
        return None
    size = reference.embedding.shape[-1]
    a, b = (array.reshape(-1, size).astype(np.float64) for array in (reference.embedding,
                                                                     candidate.embedding))
    length, other, gap = (np.linalg.norm(array, axis=1) for array in (a, b, b - a))
    with np.errstate(divide="ignore", invalid="ignore"):
        relative = np.where(gap == 0, 0.0, gap / length)
        cosine = np.where(length * other == 0, 0.0, (a * b).sum(1) / (length * other))
        cosine = np.where(gap == 0, 1.0, cosine)
    return EmbeddingGaps(relative, cosine)


def summarize_embeddings(gaps: EmbeddingGaps) -> EmbeddingDifferences:
    """Return the statistics of differences."""
    return EmbeddingDifferences(
        worst_difference=float(gaps.relative.max()), median_difference=float(np.median(gaps.relative)),
        worst_cosine=float(gaps.cosine.min()), median_cosine=float(np.median(gaps.cosine)))


def compare_embeddings(reference: Outputs, candidate: Outputs) -> EmbeddingDifferences | None:
    """Return the statistics of two runs over the same chunks, as `find_embedding_gaps` and
    `summarize_embeddings`; None if the runs have no embeddings."""
    gaps = find_embedding_gaps(reference, candidate)
    return summarize_embeddings(gaps) if gaps else None


def difference_curve(reference: FloatArray, candidate: FloatArray,
                     streams: int = 1) -> NDArray[np.float64]:
    """Return the mean score difference of each chunk, [chunks]. With several `streams`, return that of each
    step over its streams, [chunks / streams]."""
    gap = np.abs(candidate.astype(np.float64) - reference)
    return np.asarray(gap.mean(1).reshape(-1, streams).mean(1))


def compute_drift(curve: NDArray[np.float64], length: int, memory: int) -> Drift | None:
    """Return the drift of a `difference_curve` [chunks] whose chunks from `length` on repeat its first
    chunks. `memory` is the number of chunks that a cache remembers; that many of the repeated chunks are left
    out. None if the stream is too short to measure it."""
    repeated = len(curve) - length
    if repeated <= memory:
        return None
    first, again = (float(part[memory:repeated].mean()) for part in (curve, curve[length:]))
    slope, mean = (again - first) / length, float(curve[:length].mean())
    return Drift(chunks=repeated - memory, first=first, again=again, slope=slope,
                 drift=slope * length / mean if mean else 0.0)


def judge_embedding(gates: Gates, contract: Contract, name: str,
                    found: EmbeddingDifferences | None) -> Iterator[Gate]:
    """Judge whether the embeddings are within the target's limits, as far as it has any; NaN fails. They are
    not judged for random weights. No gate without embeddings."""
    if found is None:
        return
    for limit, what, value, sign in (
            (gates.max_embedding_difference, "median embedding difference", found.median_difference, 1),
            (gates.max_embedding_difference_worst, "worst embedding difference", found.worst_difference, 1),
            (gates.min_embedding_cosine, "median embedding cosine", found.median_cosine, -1)):
        if limit is None:
            continue
        gate = Gate(name=f"{what}, {name}", status="skipped", value=None, limit=limit, note=RANDOM)
        if not contract.has_random_weights:
            note = f"{value:.1e}, at most {limit:g}" if sign > 0 else f"{value:.4f}, at least {limit:g}"
            gate = replace(gate, status="passed" if sign * value <= sign * limit else "failed", value=value,
                           note=note)
        yield gate


def judge_difference(gates: Gates, name: str, differences: Differences) -> Gate:
    """Judge whether the largest score difference is within the target's limit; NaN fails."""
    limit, value = gates.max_score_difference, differences.largest
    return Gate(name=f"largest score difference, {name}", status="passed" if value <= limit else "failed",
                value=value, limit=limit, note=f"{value:.1e}, at most {limit:g}")
