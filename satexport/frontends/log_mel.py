"""Log-mel front ends with numpy, and the window and filters for PyTorch and the graph. Their parameters are
in `rows`."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from satexport.frontends.rows import FrontEnd

DB_PER_LN = 10 / np.log(10)  # 10 log10(x) = DB_PER_LN ln(x)


def window(row: FrontEnd) -> NDArray[np.float64]:
    """Return the periodic Hann window, [n_fft]."""
    return 0.5 - 0.5 * np.cos(2 * np.pi * np.arange(row.n_fft) / row.n_fft)


def mel_filterbank(row: FrontEnd) -> NDArray[np.float64]:
    """Return the triangular filters, [bins, bands]; HTK: mel = 2595 log10(1 + f / 700)."""
    top = 2595 * np.log10(1 + row.f_max / 700)
    bottom = 2595 * np.log10(1 + row.f_min / 700)
    corners = 700 * (10 ** (np.linspace(bottom, top, row.bands + 2) / 2595) - 1)  # Hz
    bins = np.linspace(0, row.sample_rate / 2, row.bins)[:, None]                 # Hz
    width = np.diff(corners)
    rising = (bins - corners[:-2]) / width[:-1]
    falling = (corners[2:] - bins) / width[1:]
    return np.maximum(0.0, np.minimum(rising, falling))


def log_mel(row: FrontEnd, audio: NDArray[np.float32], frames: int) -> NDArray[np.float32]:
    """Return decibels [N, bands, frames] for chunks [N, samples] in [-1, 1], clamped per stream: the input of
    a graph that was exported with `--input mel`. Computed in float64. Frames beyond `frames` are dropped, but
    affect the clamp."""
    half = row.n_fft // 2
    padded = np.pad(audio.astype(np.float64), ((0, 0), (half, half)), mode="reflect")
    framed = np.lib.stride_tricks.sliding_window_view(padded, row.n_fft, axis=1)[:, ::row.hop]
    power = np.abs(np.fft.rfft(framed * window(row))) ** 2                        # [N, F, bins]
    decibels = 10 * np.log10(np.maximum(power @ mel_filterbank(row), row.floor))  # [N, F, bands]
    decibels = np.maximum(decibels, decibels.max((1, 2), keepdims=True) - row.top_db)
    return np.ascontiguousarray(decibels[:, :frames].swapaxes(1, 2), np.float32)
