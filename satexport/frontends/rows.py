"""The front ends by name. To add one, add its row."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np

from satexport.errors import made_by_newer
from satexport.frontends.front_end import FrontEnd
from satexport.frontends.kaldi import KaldiMel
from satexport.frontends.log_mel import LogMel
from satexport.frontends.preemphasis_mel import PreEmphasisMel
from satexport.terminal import shown

LOG_MEL_16K = LogMel(name="log-mel-16k", sample_rate=16_000, n_fft=512, hop=160, bands=64, f_min=0.0,
                     f_max=8000.0, floor=1e-10, top_db=120.0)
SLANEY_MEL_32K = LogMel(
    name="slaney-mel-32k", sample_rate=32_000, n_fft=1024, hop=320, bands=64, f_min=50.0, f_max=14_000.0,
    floor=1e-10, top_db=np.inf, scale="slaney", padded=320_000)
KALDI_MEL_16K = KaldiMel(
    name="kaldi-mel-16k", sample_rate=16_000, frame=400, hop=160, n_fft=512, shape="hann", scale=1.0,
    bands=128, f_min=20.0, f_max=8000.0, floor=2.0 ** -23)
KALDI_MEL_16K_POVEY = replace(KALDI_MEL_16K, name="kaldi-mel-16k-povey", shape="povey", scale=32_768.0)
PREEMPHASIS_MEL_32K = PreEmphasisMel(
    name="preemphasis-mel-32k", sample_rate=32_000, pre_emphasis=0.97, n_fft=1024, window_length=800, hop=320,
    bands=128, f_min=0.0, f_max=15_000.0, offset=1e-5)

_ROWS: tuple[FrontEnd, ...] = (
    LOG_MEL_16K,
    SLANEY_MEL_32K,
    KALDI_MEL_16K,
    KALDI_MEL_16K_POVEY,
    PREEMPHASIS_MEL_32K,
    *(replace(PREEMPHASIS_MEL_32K, name=f"preemphasis-mel-32k-hop-{hop}", hop=hop)
      for hop in (100, 160, 480, 640, 800)),
    *(replace(PREEMPHASIS_MEL_32K, name=f"preemphasis-mel-32k-bands-{bands}", bands=bands)
      for bands in (40, 64, 256)),
)
FRONT_ENDS = {row.name: row for row in _ROWS}


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
