"""Tally: the mean spectrum of a second at 32 kHz, one hidden layer, and the mean over the last seconds."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

from satexport.frontends.log_mel import LogMel
from satexport.models.timed import Timed

LOG_MEL = LogMel(name="log-mel-32k", sample_rate=32_000, n_fft=1024, hop=320, bands=40, f_min=50.0,
                   f_max=14_000.0, floor=1e-10, top_db=80.0)


@dataclass(frozen=True, kw_only=True)
class Variant(Timed):
    """A tally at a delay."""

    family: ClassVar[str] = "tally"
    sample_rate: ClassVar[int] = LOG_MEL.sample_rate
    front_end: ClassVar[str] = LOG_MEL.name

    width: int     # of the hidden layer
    averaged: int  # number of earlier steps in the mean

    @property
    def memory_steps(self) -> int:
        return self.averaged

    @property
    def frames(self) -> int:
        return LOG_MEL.frame_count(self.window_samples)


VARIANTS = {("tally", 1): Variant(model="tally", delay=1, window=1, width=32, averaged=3)}


def find_model(model: str) -> Mapping[int, Variant]:
    return {variant.delay: variant for variant in VARIANTS.values() if variant.model == model}
