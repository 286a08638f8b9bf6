"""Records of what each layer costs in int8. `satexport.report.figures` names and defines their figures.
Imports only numpy."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from satexport.origin import origin
from satexport.parity.differences import Differences


@dataclass(frozen=True, kw_only=True)
class LayerCost:
    """Score differences from the fp32 graph with only this layer in int8."""

    layer: str
    differences: Differences


@dataclass(frozen=True, kw_only=True)
class SensitivityReport:
    """What each layer costs in int8: `sensitivity.json`."""

    variant: str
    clips: str                       # name of the set that was scored
    chains: int                      # of clips
    chain_seconds: int               # s, minimum length of a chain
    all: Differences                 # every layer in int8
    layers: tuple[LayerCost, ...]    # by mean difference, the largest first
    origin: Mapping[str, Any] = field(default_factory=origin)
