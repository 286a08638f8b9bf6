"""Front ends by name, each a row of numbers: what `log_mel` computes and `log_mel_nodes` writes as nodes."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from satexport.errors import made_by_newer
from satexport.terminal import shown


@dataclass(frozen=True, kw_only=True)
class FrontEnd:
    """A log-mel front end: power spectrogram of centred, reflect-padded frames under a periodic Hann window,
    HTK-scale triangular filters without area normalisation, decibels, clamped `top_db` under the loudest
    value of the chunk (torchaudio's MelSpectrogram and AmplitudeToDB)."""

    name: str         # by which a contract and a variant call it
    sample_rate: int  # Hz
    n_fft: int        # samples of a frame and of its window
    hop: int          # samples from one frame to the next
    bands: int        # mel filters
    f_min: float      # Hz, lower end of the first filter
    f_max: float      # Hz, upper end of the last filter
    floor: float      # least power: 10 log10 of it is the least decibels
    top_db: float     # dB under the maximum of the chunk's spectrogram

    @property
    def bins(self) -> int:
        """Frequencies of the spectrum of one frame."""
        return self.n_fft // 2 + 1

    def frame_count(self, samples: int) -> int:
        """How many centred frames so many samples give."""
        return 1 + samples // self.hop

    def parameters(self) -> dict[str, Any]:
        """What a contract says of it: enough to build it again elsewhere."""
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

    Raises `BundleError` if there is none of that name here, or it has other parameters.
    """
    name = parameters.get("name")
    row = FRONT_ENDS.get(name) if isinstance(name, str) else None
    if row is None or row.parameters() != parameters:
        lack = "with these parameters" if row else f"(it has {', '.join(FRONT_ENDS)})"
        raise made_by_newer(f"the bundle needs the front end {shown(name)}, which this satexport does not "
                            f"have {lack}")
    return row
