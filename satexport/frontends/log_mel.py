"""The mel front end as numbers: every constant that PyTorch and the graph share.

Log-mel as the published models were trained with it (torchaudio's MelSpectrogram and
AmplitudeToDB): power spectrogram of centred, reflect-padded frames, HTK-scale triangular
filters without area normalisation, decibels, clamped to TOP_DB under the loudest bin.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

N_FFT = 512           # samples, also the window's length
BINS = N_FFT // 2 + 1
F_MIN, F_MAX = 0.0, 8000.0  # Hz
FLOOR = 1e-10         # power; 10 log10 of it is -100 dB
TOP_DB = 120.0        # dB under the maximum of the input's spectrogram
BN_EPS = 1e-5         # the batch norm over mel bands that follows

SAMPLE_RATE = 16_000  # Hz
HOP = 160             # samples, 10 ms
MEL_BANDS = 64
DB_PER_LN = 10 / np.log(10)  # 10 log10(x) = DB_PER_LN ln(x)
PARAMETERS: dict[str, float | int | str] = {  # what a reader of a bundle needs to rebuild it
    "sample_rate": SAMPLE_RATE, "n_fft": N_FFT, "hop": HOP, "window": "hann (periodic)",
    "centre": "reflect", "power": 2, "bands": MEL_BANDS, "mel_scale": "htk", "norm": "none",
    "f_min": F_MIN, "f_max": F_MAX, "floor": FLOOR, "top_db": TOP_DB,
}


def window() -> NDArray[np.float64]:
    """Return the periodic Hann window, [N_FFT]."""
    return 0.5 - 0.5 * np.cos(2 * np.pi * np.arange(N_FFT) / N_FFT)


def mel_filterbank() -> NDArray[np.float64]:
    """Return the triangular filters, [BINS, MEL_BANDS]; HTK: mel = 2595 log10(1 + f / 700)."""
    top = 2595 * np.log10(1 + F_MAX / 700)
    bottom = 2595 * np.log10(1 + F_MIN / 700)
    corners = 700 * (10 ** (np.linspace(bottom, top, MEL_BANDS + 2) / 2595) - 1)  # Hz
    bins = np.linspace(0, SAMPLE_RATE / 2, BINS)[:, None]                         # Hz
    width = np.diff(corners)
    rising = (bins - corners[:-2]) / width[:-1]
    falling = (corners[2:] - bins) / width[1:]
    return np.maximum(0.0, np.minimum(rising, falling))


def frame_count(samples: int) -> int:
    """Return how many centred frames a signal gives."""
    return 1 + samples // HOP


def log_mel(audio: NDArray[np.float32], frames: int) -> NDArray[np.float32]:
    """Return decibels [N, 64, frames] of chunks [N, samples] in [-1, 1], clamped per stream: the
    input of a graph that was exported with `--input mel`. Computed in float64; frames beyond
    `frames` count for the clamp alone, as in the published models."""
    padded = np.pad(audio.astype(np.float64), ((0, 0), (N_FFT // 2, N_FFT // 2)), mode="reflect")
    framed = np.lib.stride_tricks.sliding_window_view(padded, N_FFT, axis=1)[:, ::HOP]
    power = np.abs(np.fft.rfft(framed * window())) ** 2                    # [N, F, 257]
    decibels = 10 * np.log10(np.maximum(power @ mel_filterbank(), FLOOR))  # [N, F, 64]
    decibels = np.maximum(decibels, decibels.max((1, 2), keepdims=True) - TOP_DB)
    return np.ascontiguousarray(decibels[:, :frames].swapaxes(1, 2), np.float32)
