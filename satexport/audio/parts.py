"""Parts of a recording, read from near their beginning and still bit for bit as in the whole."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from satexport.audio.resample import Resampler

SEEKABLE = ("WAV", "WAVEX", "RF64", "W64", "AIFF", "AU", "CAF", "FLAC")
PLAIN = ("PCM", "FLOAT", "DOUBLE", "ULAW", "ALAW")  # begins their subtypes
LAST_SECONDS = 30       # of a file, into which is not sought: in the last page of Vorbis libsndfile misses
MAX_LENGTH = 1 << 36    # frames; a header with more does not know the length


class Part:
    """The samples `begin` to `end`, at `rate`, of a sound that has just been opened; None: to its end."""

    def __init__(self, sound: Any, rate: int, begin: int, end: int | None) -> None:
        """Raises soundfile's `SoundFileError` if the sound cannot be read from there on."""
        resamples = sound.samplerate != rate
        self._resampler = Resampler(sound.samplerate, rate, begin) if resamples else None
        first = self._resampler.needs_from if self._resampler else begin
        self.position = 0  # of the next frame of the sound
        if first and is_seekable(sound):
            self.position = sound.seek(max(0, min(first, sound.frames - LAST_SECONDS * sound.samplerate)))
        self._skipped = first - self.position
        self._missing = None if end is None else end - begin

    @property
    def is_over(self) -> bool:
        return self._missing == 0

    def add(self, frames: NDArray[np.float32], is_last: bool) -> NDArray[np.float32]:
        """Add frames [n], averaged over the channels, and return samples of the part."""
        skipped = min(self._skipped, len(frames))
        self._skipped -= skipped
        samples = frames[skipped:]
        if self._resampler:
            samples = self._resampler.add(samples, is_last)
        samples = samples[:self._missing]
        if self._missing is not None:
            self._missing -= len(samples)
        return samples


def is_seekable(sound: Any) -> bool:
    """Whether reading a sound of soundfile from its middle gives the same frames as reading all of it: in MP3
    and Opus a frame depends on earlier ones, and in a compressed format with a header that does not say how
    long it is, the middle is not known."""
    is_vorbis = (sound.format, sound.subtype) == ("OGG", "VORBIS")
    is_plain = sound.format in SEEKABLE and sound.subtype.startswith(PLAIN)
    return sound.frames < MAX_LENGTH and (is_vorbis or is_plain)
