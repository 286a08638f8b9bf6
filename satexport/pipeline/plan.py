"""What is asked of a build, and what became of it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from satexport.bundle.gates import Gate
from satexport.quantize.calibration_set import CalibrationSet


@dataclass(frozen=True)
class Wanted:
    """What a bundle is made by, beside its target."""

    calibration: CalibrationSet
    recordings: Path | None = None   # of the calibration set, where it does not say it
    cache_dtype: str = "fp32"
    sensitivity: bool = False


@dataclass(frozen=True)
class Proof:
    """How a bundle is proven and measured."""

    data: str = "synthetic"
    folds: Sequence[int] | None = None
    category_map: Path | None = None
    require_data: bool = False        # a gate that could not be judged fails
    checkpoint: str | None = None
    minutes: float = 10.0
    threads: int | None = None
    measure: bool = True


@dataclass
class Compiled:
    """What became of it: reports as they lie in the bundle."""

    path: Path
    gates: list[Gate] = field(default_factory=list)
    parity: dict[str, Any] = field(default_factory=dict)
    twin: dict[str, Any] | None = None          # parity of the fp16 graph beside an int8 one for TensorRT
    rtx: dict[str, Any] | None = None           # what TensorRT for RTX built
    measured: dict[str, Any] | None = None      # beside the export and PyTorch
    sensitivity: dict[str, Any] | None = None
    products: int = 0                           # with a weight, in int8
    left_out: tuple[str, ...] = ()
    notes: list[str] = field(default_factory=list)
