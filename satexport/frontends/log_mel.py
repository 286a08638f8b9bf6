"""Log-mel front ends in decibels. `nodes.log_mel` writes them as ONNX nodes."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from satexport.frontends.mel_banks import htk_mel_bank, slaney_mel_bank
from satexport.step import FloatArray

DB_PER_LN = 10 / np.log(10)  # 10 log10(x) = DB_PER_LN ln(x)


@dataclass(frozen=True, kw_only=True)
class LogMel:
    """A log-mel front end: power spectrogram of centred, reflect-padded frames with a periodic Hann window,
    triangular filters, decibels. As torchaudio's MelSpectrogram and AmplitudeToDB: on the HTK scale without
    area normalisation, clamped to `top_db` below the maximum of the chunk. As librosa's: on Slaney's scale
    with filters of area one, not clamped; then zeros can be appended to a chunk first."""

    name: str         # used in contracts and variants
    sample_rate: int  # Hz
    n_fft: int        # samples per frame; also the length of the window and the FFT
    hop: int          # samples from one frame to the next
    bands: int        # mel filters
    f_min: float      # Hz, lower edge of the first filter
    f_max: float      # Hz, upper edge of the last filter
    floor: float      # minimum power, applied before the logarithm
    top_db: float     # dB; dynamic range below the maximum of the chunk's spectrogram; inf: not clamped
    scale: Literal["htk", "slaney"] = "htk"
    padded: int = 0   # samples; zeros are appended to a shorter chunk; only without a clamp

    @property
    def is_clamped(self) -> bool:
        """Whether features depend on the maximum of the chunk."""
        return self.top_db < np.inf

    @property
    def bins(self) -> int:
        """Number of frequency bins of a frame's spectrum."""
        return self.n_fft // 2 + 1

    def frame_count(self, samples: int) -> int:
        """Return the number of centred frames of a signal with this many samples; with zeros behind it, of
        those frames that have a sample of the signal."""
        if samples >= self.padded:
            return 1 + samples // self.hop
        return min(1 + self.padded // self.hop, 1 + (samples + self.n_fft // 2 - 1) // self.hop)

    def window(self) -> NDArray[np.float64]:
        """Return the periodic Hann window, [n_fft]."""
        return 0.5 - 0.5 * np.cos(2 * np.pi * np.arange(self.n_fft) / self.n_fft)

    def filters(self) -> NDArray[np.float64]:
        """Return the mel filters, [bins, bands]."""
        bank = htk_mel_bank if self.scale == "htk" else slaney_mel_bank
        return bank(self.sample_rate, self.n_fft, self.bands, self.f_min, self.f_max)

    def parameters(self) -> dict[str, Any]:
        """Return the description for a contract."""
        return {
            "name": self.name, "kind": "log-mel", "sample_rate": self.sample_rate, "n_fft": self.n_fft,
            "hop": self.hop, "window": "hann (periodic)", "centre": "reflect", "power": 2,
            "bands": self.bands, "mel_scale": self.scale, "norm": "none" if self.scale == "htk" else "area",
            "f_min": self.f_min, "f_max": self.f_max, "floor": self.floor,
            "top_db": self.top_db if self.is_clamped else "none", "padded": self.padded,
        }

    def compute(self, audio: FloatArray, frames: int) -> FloatArray:
        """Return decibels [N, bands, frames] for chunks [N, samples] in [-1, 1], clamped per stream: the
        input of a graph that was exported with `--input mel`. Computed in float64. Frames beyond `frames` are
        dropped, but affect the clamp."""
        half, zeros = self.n_fft // 2, max(0, self.padded - audio.shape[1])
        signal = np.pad(audio.astype(np.float64), ((0, 0), (0, zeros)))
        padded = np.pad(signal, ((0, 0), (half, half)), mode="reflect")
        framed = np.lib.stride_tricks.sliding_window_view(padded, self.n_fft, axis=1)[:, ::self.hop]
        if not self.is_clamped:
            framed = framed[:, :frames]
        power = np.abs(np.fft.rfft(framed * self.window())) ** 2                        # [N, F, bins]
        decibels = 10 * np.log10(np.maximum(power @ self.filters(), self.floor))        # [N, F, bands]
        decibels = np.maximum(decibels, decibels.max((1, 2), keepdims=True) - self.top_db)
        return np.ascontiguousarray(decibels[:, :frames].swapaxes(1, 2), np.float32)
