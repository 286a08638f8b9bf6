"""How far scores are apart. Imports numpy alone."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from satexport.bundle.gates import Gate
from satexport.bundle.target import Gates
from satexport.step import FloatArray


@dataclass(frozen=True, kw_only=True)
class Differences:
    """Score differences over chunks."""

    chunks: int
    largest: float
    mean: float
    top1_agreement: float
    p50: float             # quantiles over the chunks of the mean difference of a chunk
    p90: float
    p99: float


@dataclass(frozen=True, kw_only=True)
class Drift:
    """How the score difference of the same sounds changes from the beginning of a stream to its end."""

    chunks: int    # compared, of each stream
    first: float   # their mean score difference when heard first
    again: float   # and at the end
    slope: float   # per chunk
    drift: float   # slope * chunks of the stream / mean


def compare(reference: FloatArray, candidate: FloatArray, streams: int = 1) -> Differences:
    """Differences of two runs over the same chunks, scores [chunks, classes] each; of several streams
    the chunks that were heard together follow each other."""
    gap = np.abs(candidate.astype(np.float64) - reference)
    curve = difference_curve(reference, candidate, streams)
    agreement = float((reference.argmax(1) == candidate.argmax(1)).mean())
    p50, p90, p99 = np.quantile(curve, (0.5, 0.9, 0.99)).tolist()
    return Differences(chunks=len(gap), largest=float(gap.max()), mean=float(curve.mean()),
                       top1_agreement=agreement, p50=p50, p90=p90, p99=p99)


def difference_curve(reference: FloatArray, candidate: FloatArray,
                     streams: int = 1) -> NDArray[np.float64]:
    """Mean score difference of each chunk [chunks]; of several streams heard together the mean over them."""
    gap = np.abs(candidate.astype(np.float64) - reference)
    return np.asarray(gap.mean(1).reshape(-1, streams).mean(1))


def compute_drift(curve: NDArray[np.float64], length: int, memory: int) -> Drift | None:
    """Drift of a curve [chunks] whose chunks from `length` on are its first ones again; `memory` is the
    number of chunks that a cache remembers. None if the stream is too short to tell."""
    heard_again = len(curve) - length
    if heard_again <= memory:
        return None
    first, again = (float(part[memory:heard_again].mean()) for part in (curve, curve[length:]))
    slope, mean = (again - first) / length, float(curve[:length].mean())
    return Drift(chunks=heard_again - memory, first=first, again=again, slope=slope,
                 drift=slope * length / mean if mean else 0.0)


def judge_difference(gates: Gates, name: str, differences: Differences) -> Gate:
    """Is the largest score difference within the target's limit? NaN fails."""
    limit, value = gates.max_score_difference, differences.largest
    return Gate(name=f"largest score difference, {name}", status="passed" if value <= limit else "failed",
                value=value, limit=limit, note=f"{value:.1e}, at most {limit:g}")
