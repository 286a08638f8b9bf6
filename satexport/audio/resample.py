"""Resample a recording so that each part of it can also be resampled alone, bit for bit.

The recording is cut into segments of about `SEGMENT_SECONDS`, and soxr (HQ) resamples each anew, from
`MARGIN_SECONDS` before its beginning to as much after its end; the output of these margins is dropped. The
filter of soxr is shorter than a margin, so the result is that of one pass up to rounding (about 1e-7), and it
does not depend on where reading began.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numpy.typing import NDArray

SEGMENT_SECONDS = 60
MARGIN_SECONDS = 0.25   # soxr's HQ filter is 125 samples of the lower rate long at most


class Resampler:
    """Resamples mono float32 samples that come block by block, however they are split."""

    def __init__(self, source_rate: int, rate: int, first: int = 0) -> None:
        """Rates in Hz. The first sample of the result is `first`, and the first one that is added is that of
        `needs_from`."""
        common = math.gcd(source_rate, rate)
        self._rates, self._in, self._out = (source_rate, rate), source_rate // common, rate // common
        self._length = math.ceil(SEGMENT_SECONDS * rate / self._out)  # of a segment: times `_in`, or `_out`
        self._margin = math.ceil(MARGIN_SECONDS * rate / self._out)
        self._segment = first // (self._length * self._out)
        self.needs_from = self._start(self._segment)  # source samples
        self._position = self.needs_from              # of the next source sample
        self._begin(first)

    def _start(self, segment: int) -> int:
        """The first source sample that a segment needs."""
        return max(0, segment * self._length - self._margin) * self._in

    def _begin(self, first: int) -> None:
        """Begin the segment; `first` is the first sample of the result that is returned."""
        import soxr

        self._soxr: Any = soxr.ResampleStream(*self._rates, 1, "float32", "HQ")
        self._dropped = first - self._start(self._segment) // self._in * self._out
        self._missing = (self._segment + 1) * self._length * self._out - first
        self._tail: NDArray[np.float32] = np.empty(0, np.float32)  # of the source samples, for the next one

    def add(self, samples: NDArray[np.float32], is_last: bool = False) -> NDArray[np.float32]:
        """Add source samples [n] and return the samples that are complete, [m]; with `is_last` the rest,
        too."""
        parts = []
        while self._is_complete(len(samples), is_last):
            room = self._start(self._segment + 1) + 2 * self._margin * self._in - self._position
            parts.append(self._resample(samples[:room], is_last=True))
            self._segment += 1
            again = self._position - self._start(self._segment)
            samples = np.concatenate((self._tail[len(self._tail) - again:], samples[room:]))
            self._position -= again
            self._begin(self._segment * self._length * self._out)
        parts.append(self._resample(samples, is_last))
        return np.concatenate(parts)

    def _is_complete(self, count: int, is_last: bool) -> bool:
        """Whether the segment ends within the next `count` samples, with its margin or before the last."""
        beyond = self._position + count - (self._segment + 1) * self._length * self._in
        return beyond >= self._margin * self._in or (is_last and beyond > 0)

    def _resample(self, samples: NDArray[np.float32], is_last: bool) -> NDArray[np.float32]:
        """Resample samples of this segment."""
        self._position += len(samples)
        self._tail = np.concatenate((self._tail, samples))[-2 * self._margin * self._in:]
        result: NDArray[np.float32] = self._soxr.resample_chunk(samples, is_last)
        dropped = min(self._dropped, len(result))
        result = result[dropped:dropped + self._missing]
        self._dropped -= dropped
        self._missing -= len(result)
        return result
