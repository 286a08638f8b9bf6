"""The protocol of a front end: from waveform to the features that a model takes. Imports only numpy."""

from __future__ import annotations

from typing import Any, Protocol

from satexport.step import FloatArray


class FrontEnd(Protocol):
    """A front end with its parameters: a row of FRONT_ENDS. Each kind of front end has a frozen dataclass
    that computes the features with numpy, and a module in `nodes` that writes the same as ONNX nodes."""

    @property
    def name(self) -> str:
        """Used in contracts and variants."""

    @property
    def sample_rate(self) -> int:
        """In Hz."""

    @property
    def bands(self) -> int:
        """Features per frame."""

    def frame_count(self, samples: int) -> int:
        """Return the number of frames of a signal with this many samples."""

    def parameters(self) -> dict[str, Any]:
        """Return the description for a contract, with JSON types, sufficient to implement the front end
        elsewhere. It has at least `name`, `kind`, `sample_rate`, `n_fft` and `hop` (both in samples)."""

    def compute(self, audio: FloatArray, frames: int) -> FloatArray:
        """Return the features [N, bands, frames] of chunks [N, samples] in [-1, 1], computed in float64.
        Frames beyond `frames` are dropped."""
