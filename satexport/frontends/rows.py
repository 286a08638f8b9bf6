"""The front ends by name. To add one, add its row."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from satexport.errors import made_by_newer
from satexport.frontends.front_end import FrontEnd
from satexport.frontends.log_mel import LogMel
from satexport.terminal import shown

LOG_MEL_16K = LogMel(name="log-mel-16k", sample_rate=16_000, n_fft=512, hop=160, bands=64, f_min=0.0,
                     f_max=8000.0, floor=1e-10, top_db=120.0)

FRONT_ENDS: dict[str, FrontEnd] = {row.name: row for row in (
    LOG_MEL_16K,
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
