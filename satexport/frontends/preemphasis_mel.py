"""The log-mel front ends of EfficientAT and PaSST, with pre-emphasis. `nodes.preemphasis_mel` writes them as
ONNX nodes."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from satexport.frontends.mel_banks import kaldi_mel_bank
from satexport.step import FloatArray


@dataclass(frozen=True, kw_only=True)
class PreEmphasisMel:
    """A log-mel front end: pre-emphasis of the whole chunk, y[t] = x[t + 1] - c x[t], which is one sample
    shorter; power spectrogram of centred, reflect-padded frames with a symmetric Hann window in the middle of
    each frame and zeros on either side; Kaldi's mel filters; ln(power + offset)."""

    name: str            # used in contracts and variants
    sample_rate: int     # Hz
    pre_emphasis: float  # c
    n_fft: int           # samples per frame; also the length of the FFT
    window_length: int   # samples; (n_fft - window_length) / 2 zeros are on either side
    hop: int             # samples from one frame to the next
    bands: int           # mel filters
    f_min: float         # Hz, lower edge of the first filter
    f_max: float         # Hz, upper edge of the last filter
    offset: float        # power, added before the logarithm

    def frame_count(self, samples: int) -> int:
        """Return the number of centred frames of a signal with this many samples."""
        return 1 + (samples - 1) // self.hop

    def window(self) -> NDArray[np.float64]:
        """Return the symmetric Hann window, [window_length], without the zeros."""
        return np.hanning(self.window_length)

    def filters(self) -> NDArray[np.float64]:
        """Return the mel filters, [n_fft / 2 + 1, bands]."""
        return kaldi_mel_bank(self.sample_rate, self.n_fft, self.bands, self.f_min, self.f_max)

    def parameters(self) -> dict[str, Any]:
        """Return the description for a contract."""
        return {
            "name": self.name, "kind": "pre-emphasis mel", "sample_rate": self.sample_rate,
            "pre_emphasis": self.pre_emphasis, "n_fft": self.n_fft, "hop": self.hop,
            "window": "hann (symmetric), centred", "window_length": self.window_length, "centre": "reflect",
            "power": 2, "bands": self.bands, "mel_scale": "kaldi", "norm": "none", "f_min": self.f_min,
            "f_max": self.f_max, "offset": self.offset, "log": "natural",
        }

    def compute(self, audio: FloatArray, frames: int) -> FloatArray:
        """Return ln(power + offset), [N, bands, frames], for chunks [N, samples] in [-1, 1]: the input of a
        graph that was exported with `--input mel`. Computed in float64. Frames beyond `frames` are dropped.
        A chunk has more than n_fft / 2 + 1 samples."""
        x = audio.astype(np.float64)
        half, zeros = self.n_fft // 2, (self.n_fft - self.window_length) // 2
        padded = np.pad(x[:, 1:] - self.pre_emphasis * x[:, :-1], ((0, 0), (half, half)), mode="reflect")
        framed = np.lib.stride_tricks.sliding_window_view(padded, self.n_fft, axis=1)[:, ::self.hop]
        power = np.abs(np.fft.rfft(framed[:, :frames] * np.pad(self.window(), zeros))) ** 2  # [N, F, bins]
        features = np.log(power @ self.filters() + self.offset)                              # [N, F, bands]
        return np.ascontiguousarray(features.swapaxes(1, 2), np.float32)
