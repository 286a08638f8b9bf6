"""Samples that a stream is fed: their rate, shape and values. Imports only numpy."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from satexport.errors import AudioError
from satexport.step import MAX_AMPLITUDE, PCM_SCALE, FloatArray

QUIETEST = 1e-11  # samples below this are set to 0: they change no score, but their squares are subnormal
                  # numbers, which make many CPUs a hundred times slower


def check_rate(stated: int | None, expected: int) -> None:
    """Raise `AudioError` if the caller states another rate than the expected one, in Hz."""
    if stated not in (None, expected):
        raise AudioError(f"the samples are at {stated} Hz, expected {expected} Hz: resample them first, as "
                         "`satexport run` does.")


def to_array(samples: ArrayLike) -> NDArray[Any]:
    """The samples as an array of any shape and dtype. Raises `AudioError` if that is impossible."""
    try:
        return np.asarray(samples)
    except ValueError as error:  # lists of different lengths
        raise AudioError(f"the samples are not an array ({error}); expected equally many for each "
                         "stream.") from None


def to_float(audio: NDArray[Any]) -> FloatArray:
    """The samples as float32 in [-1, 1]. Raises `AudioError` if they are not audio."""
    if (audio.dtype.kind, audio.dtype.itemsize) == ("i", 2):  # in either byte order
        return np.asarray(audio / np.float32(PCM_SCALE), np.float32)
    if audio.dtype.kind != "f" and audio.size:
        raise AudioError(f"the samples are {audio.dtype}, expected floats in [-1, 1] or int16.")
    peak = float(np.abs(audio).max(initial=0.0))  # also detects NaN and infinity
    if not peak <= MAX_AMPLITUDE:
        found = f"reach {peak:g}" if np.isfinite(peak) else "contain NaN or infinity"
        raise AudioError(f"the samples {found}, expected floats in [-1, 1]. The stream was not changed.")
    audio = audio.astype(np.float32)
    audio[np.abs(audio) < QUIETEST] = 0
    return audio
