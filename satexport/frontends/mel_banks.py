"""Mel filter banks: triangular filters over the bins of a power spectrum."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]


def htk_mel_bank(sample_rate: int, n_fft: int, bands: int, f_min: float, f_max: float) -> Array:
    """Return filters [n_fft / 2 + 1, bands] that are triangles in Hz, with corners at equal distances on the
    HTK scale, mel = 2595 log10(1 + f / 700), from `f_min` to `f_max` Hz (torchaudio's `melscale_fbanks`)."""
    top, bottom = (2595 * np.log10(1 + f / 700) for f in (f_max, f_min))
    corners = 700 * (10 ** (np.linspace(bottom, top, bands + 2) / 2595) - 1)    # Hz
    bins = np.linspace(0, sample_rate / 2, n_fft // 2 + 1)[:, None]             # Hz
    return _triangles(bins, corners)


def slaney_mel_bank(sample_rate: int, n_fft: int, bands: int, f_min: float, f_max: float) -> Array:
    """Return filters [n_fft / 2 + 1, bands] that are triangles in Hz, with corners at equal distances on
    Slaney's scale (3 mel per 200 Hz up to 1 kHz, logarithmic above) from `f_min` to `f_max` Hz. The area of
    each is one (librosa's `filters.mel`)."""
    step = 27 / np.log(6.4)  # mel per factor of e, from 15 mel at 1 kHz
    bottom, top = (3 * f / 200 if f < 1000 else 15 + step * np.log(f / 1000) for f in (f_min, f_max))
    mel = np.linspace(bottom, top, bands + 2)
    corners = np.where(mel < 15, 200 * mel / 3, 1000 * np.exp((mel - 15) / step))  # Hz
    bins = np.linspace(0, sample_rate / 2, n_fft // 2 + 1)[:, None]             # Hz
    bank: Array = _triangles(bins, corners) * 2 / (corners[2:] - corners[:-2])
    return bank


def kaldi_mel_bank(sample_rate: int, n_fft: int, bands: int, f_min: float, f_max: float) -> Array:
    """Return filters [n_fft / 2 + 1, bands] that are triangles in mel = 1127 ln(1 + f / 700), with corners at
    equal distances from `f_min` to `f_max` Hz, as Kaldi defines them. The last bin, at half the sample rate,
    has no weight. A narrow filter between two bins is empty."""
    bottom, top = (1127 * np.log(1 + f / 700) for f in (f_min, f_max))
    corners = bottom + (top - bottom) / (bands + 1) * np.arange(bands + 2)      # mel
    bins = 1127 * np.log(1 + np.arange(n_fft // 2 + 1) * sample_rate / n_fft / 700)[:, None]
    bank = _triangles(bins, corners)
    bank[-1] = 0
    return bank


def _triangles(bins: Array, corners: Array) -> Array:
    """Return the triangles with the corners i, i + 1 and i + 2, of height 1, at the bins [bins, 1]."""
    width = np.diff(corners)
    rising = (bins - corners[:-2]) / width[:-1]
    falling = (corners[2:] - bins) / width[1:]
    return np.maximum(0.0, np.minimum(rising, falling))
