"""Kaldi's log-mel features with numpy, and their matrices for PyTorch and the graph."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

Window = Literal["hann", "povey"]
PRE_EMPHASIS = 0.97
POVEY = 0.85  # the power of a Hann window that is a Povey window


@dataclass(frozen=True, kw_only=True)
class KaldiMel:
    """A log-mel front end as in Kaldi (`compute-fbank-feats`) without dither and energy. For each whole frame:
    its mean subtracted; pre-emphasis y[i] = x[i] - 0.97 x[i - 1] with x[-1] = x[0]; a symmetric window; zeros
    on the right up to `n_fft`; power spectrum; triangular filters on Kaldi's mel scale; natural logarithm of
    at least `floor`. No padding, no centring."""

    name: str         # used in contracts and variants
    sample_rate: int  # Hz
    frame: int        # samples per frame
    hop: int          # samples from one frame to the next
    n_fft: int        # length of the FFT
    window: Window    # "povey": the Hann window to the power 0.85
    scale: float      # by which samples in [-1, 1] are multiplied first
    bands: int        # mel filters
    f_min: float      # Hz, lower edge of the first filter
    f_max: float      # Hz, upper edge of the last filter
    floor: float      # least mel power, applied before the logarithm

    def frame_count(self, samples: int) -> int:
        """Number of whole frames in a signal of this length; 0 if it is shorter than a frame."""
        return max(0, 1 + (samples - self.frame) // self.hop)

    def parameters(self) -> dict[str, Any]:
        """The description for a contract, sufficient to implement the front end elsewhere."""
        return {
            "name": self.name, "kind": "kaldi-mel", "sample_rate": self.sample_rate, "frame": self.frame,
            "hop": self.hop, "n_fft": self.n_fft, "window": f"{self.window} (symmetric)",
            "scale": self.scale, "mean": "subtracted per frame", "pre_emphasis": PRE_EMPHASIS,
            "centre": "none", "power": 2, "bands": self.bands, "mel_scale": "kaldi", "norm": "none",
            "f_min": self.f_min, "f_max": self.f_max, "floor": self.floor, "log": "natural",
        }

    def compute(self, audio: NDArray[np.float32], frames: int) -> NDArray[np.float32]:
        """Return the natural logarithm of the mel power, [N, bands, frames], of chunks [N, samples] in
        [-1, 1]. Computed in float64. Frames beyond `frames` are dropped."""
        signal = audio.astype(np.float64)
        framed = np.lib.stride_tricks.sliding_window_view(signal, self.frame, axis=1)[:, ::self.hop]
        power = np.abs(np.fft.rfft(framed[:, :frames] @ frame_matrix(self), self.n_fft)) ** 2
        mel = power[..., :self.n_fft // 2] @ mel_filterbank(self)
        return np.ascontiguousarray(np.log(np.maximum(mel, self.floor)).swapaxes(1, 2), np.float32)


def window(row: KaldiMel) -> NDArray[np.float64]:
    """Return the symmetric window, [frame]."""
    hann = 0.5 - 0.5 * np.cos(2 * np.pi * np.arange(row.frame) / (row.frame - 1))
    return hann if row.window == "hann" else hann ** POVEY


def frame_matrix(row: KaldiMel) -> NDArray[np.float64]:
    """Return the matrix [frame, frame] that takes the samples of a frame, from the left, to the input of its
    FFT: scale, mean, pre-emphasis and window."""
    eye = np.eye(row.frame)
    centred = eye - 1 / row.frame
    emphasised = centred - PRE_EMPHASIS * np.hstack((centred[:, :1], centred[:, :-1]))
    return row.scale * emphasised * window(row)


def mel_filterbank(row: KaldiMel) -> NDArray[np.float64]:
    """Return the triangular filters, [n_fft / 2, bands], without the Nyquist bin, whose weights are 0. Kaldi:
    mel = 1127 ln(1 + f / 700), and the triangles are linear in mel."""
    def mel(hertz: Any) -> Any:
        return 1127 * np.log(1 + np.asarray(hertz) / 700)

    bottom, top = mel(row.f_min), mel(row.f_max)
    step = (top - bottom) / (row.bands + 1)
    left = bottom + step * np.arange(row.bands)
    bins = mel(np.arange(row.n_fft // 2) * row.sample_rate / row.n_fft)[:, None]
    rising, falling = (bins - left) / step, (left + 2 * step - bins) / step
    return np.maximum(0.0, np.minimum(rising, falling))
