"""Kaldi's log-mel front ends. `nodes.kaldi` writes them as ONNX nodes."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from satexport.frontends.mel_banks import kaldi_mel_bank
from satexport.step import FloatArray

PRE_EMPHASIS = 0.97
POVEY = 0.85  # a Povey window is a Hann window to this power


@dataclass(frozen=True, kw_only=True)
class KaldiMel:
    """A log-mel front end as Kaldi's `compute-fbank-feats` without dither and energy. For each whole frame:
    its mean subtracted; pre-emphasis y[i] = x[i] - 0.97 x[i - 1] with x[-1] = x[0]; a symmetric window; zeros
    on the right up to `n_fft`; power spectrum; triangular filters on Kaldi's mel scale; natural logarithm of
    at least `floor`. No padding, no centring."""

    name: str         # used in contracts and variants
    sample_rate: int  # Hz
    frame: int        # samples per frame
    hop: int          # samples from one frame to the next
    n_fft: int        # length of the FFT
    shape: Literal["hann", "povey"]  # of the window
    scale: float      # by which samples in [-1, 1] are multiplied first
    bands: int        # mel filters
    f_min: float      # Hz, lower edge of the first filter
    f_max: float      # Hz, upper edge of the last filter
    floor: float      # minimum power, applied before the logarithm

    def frame_count(self, samples: int) -> int:
        """Return the number of whole frames of a signal with this many samples."""
        return max(0, 1 + (samples - self.frame) // self.hop)

    def window(self) -> NDArray[np.float64]:
        """Return the symmetric window, [frame]."""
        hann = 0.5 - 0.5 * np.cos(2 * np.pi * np.arange(self.frame) / (self.frame - 1))
        return hann if self.shape == "hann" else hann ** POVEY

    def filters(self) -> NDArray[np.float64]:
        """Return the mel filters, [n_fft / 2 + 1, bands]."""
        return kaldi_mel_bank(self.sample_rate, self.n_fft, self.bands, self.f_min, self.f_max)

    def frame_matrix(self) -> NDArray[np.float64]:
        """Return the matrix [frame, frame] from the samples of a frame to the input of its FFT: scale, mean,
        pre-emphasis and window are linear."""
        centred = np.eye(self.frame) - 1 / self.frame
        emphasised = centred - PRE_EMPHASIS * np.hstack((centred[:, :1], centred[:, :-1]))
        return self.scale * emphasised * self.window()

    def parameters(self) -> dict[str, Any]:
        """Return the description for a contract."""
        return {
            "name": self.name, "kind": "kaldi-mel", "sample_rate": self.sample_rate, "frame": self.frame,
            "hop": self.hop, "n_fft": self.n_fft, "scale": self.scale, "mean": "subtracted from each frame",
            "pre_emphasis": PRE_EMPHASIS, "window": f"{self.shape} (symmetric)", "centre": "none", "power": 2,
            "bands": self.bands, "mel_scale": "kaldi", "norm": "none", "f_min": self.f_min,
            "f_max": self.f_max, "floor": self.floor, "log": "natural",
        }

    def compute(self, audio: FloatArray, frames: int) -> FloatArray:
        """Return the natural logarithm of the mel power, [N, bands, frames], for chunks [N, samples] in
        [-1, 1]. Computed in float64. Frames beyond `frames` are dropped."""
        signal = audio.astype(np.float64)
        framed = np.lib.stride_tricks.sliding_window_view(signal, self.frame, axis=1)[:, ::self.hop]
        power = np.abs(np.fft.rfft(framed[:, :frames] @ self.frame_matrix(), self.n_fft)) ** 2
        mel = np.maximum(power @ self.filters(), self.floor)                    # [N, F, bands]
        return np.ascontiguousarray(np.log(mel).swapaxes(1, 2), np.float32)
