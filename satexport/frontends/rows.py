"""The parameters of each front end, which `log_mel` computes and `log_mel_nodes` writes as ONNX nodes."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from satexport.errors import made_by_newer
from satexport.terminal import shown


@dataclass(frozen=True, kw_only=True)
class FrontEnd:
    """A log-mel front end: power spectrogram of centred, reflect-padded frames with a periodic Hann window,
    triangular filters on the HTK scale without area normalisation, decibels, clamped to `top_db` below the
    maximum of the chunk (torchaudio's MelSpectrogram and AmplitudeToDB)."""

    name: str         # used in contracts and variants
    sample_rate: int  # Hz
    n_fft: int        # samples per frame; also the length of the window and the FFT
    hop: int          # samples from one frame to the next
    bands: int        # mel filters
    f_min: float      # Hz, lower edge of the first filter
    f_max: float      # Hz, upper edge of the last filter
    floor: float      # minimum power, applied before the logarithm
    top_db: float     # dB; dynamic range below the maximum of the chunk's spectrogram

    @property
    def bins(self) -> int:
        """Number of frequency bins of a frame's spectrum."""
        return self.n_fft // 2 + 1

    def frame_count(self, samples: int) -> int:
        """Number of centred frames of a signal with this many samples."""
        return 1 + samples // self.hop

    def parameters(self) -> dict[str, Any]:
        """The description for a contract, sufficient to implement the front end elsewhere."""
        return {
            "name": self.name, "kind": "log-mel", "sample_rate": self.sample_rate, "n_fft": self.n_fft,
            "hop": self.hop, "window": "hann (periodic)", "centre": "reflect", "power": 2,
            "bands": self.bands, "mel_scale": "htk", "norm": "none", "f_min": self.f_min,
            "f_max": self.f_max, "floor": self.floor, "top_db": self.top_db,
        }


FRONT_ENDS = {row.name: row for row in (
    FrontEnd(name="log-mel-16k", sample_rate=16_000, n_fft=512, hop=160, bands=64, f_min=0.0, f_max=8000.0,
             floor=1e-10, top_db=120.0),
)}


def find_front_end(parameters: Mapping[str, Any]) -> FrontEnd:
    """Return the front end that a contract's `front_end` describes.

    Raises `BundleError` if this version has no front end with that name and these parameters.
    """
    name = parameters.get("name")
    row = FRONT_ENDS.get(name) if isinstance(name, str) else None
    if row is None or row.parameters() != parameters:
        detail = "with these parameters" if row else f"(it has {', '.join(FRONT_ENDS)})"
        raise made_by_newer(f"the bundle needs the front end {shown(name)}, which this version of satexport "
                            f"does not have {detail}")
    return row
