"""What is asked of a build and what goes with what: everything that can be said before the work."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from satexport.audio.datasets import is_esc50
from satexport.bundle.contract import USUAL_OPTIONS, GraphOptions
from satexport.bundle.target import AUTO, Quantization, Target
from satexport.errors import UsageError
from satexport.quantize.calibration_set import CalibrationSet, default_folds, find_calibration


@dataclass(frozen=True, kw_only=True)
class ExportOptions:
    """The export that a bundle is made of, where it is made first."""

    model: str
    delay: int | None = None          # s; None: the usual one of the model
    checkpoint: str = "published"     # or "demo", "random", a file, "hub:OWNER/REPO"
    labels: Path | None = None
    options: GraphOptions = USUAL_OPTIONS


@dataclass(frozen=True, kw_only=True)
class BuildOptions:
    """What a bundle is made by, beside its target."""

    calibration: CalibrationSet
    recordings: Path | None = None   # of the calibration set, where it does not say it
    cache_dtype: str = "fp32"
    sensitivity: bool = False        # find what each layer costs


@dataclass(frozen=True, kw_only=True)
class ProofOptions:
    """How a bundle is proven and measured."""

    data: str = "synthetic"
    folds: Sequence[int] | None = None
    category_map: Path | None = None
    require_data: bool = False        # a gate that could not be judged fails
    checkpoint: str | None = None
    minutes: float = 10.0
    threads: int | None = None
    measure: bool = True


def apply_choices(target: Target, *, ranges: str | None = None, leave_out: Sequence[str] = (),
                  sensitivity: bool = False) -> Target:
    """A target with what was asked for in place of its own choices. Raises `UsageError` for what has no
    meaning for it."""
    if not target.quantization:
        for option, given in (("--ranges", ranges), ("--leave-out", leave_out),
                              ("--sensitivity", sensitivity)):
            if given:
                raise UsageError(f"{option} is of int8: leave it out, or ask for --int8.")
        return target
    if ranges and target.quantization.method == "dynamic":
        raise UsageError("--ranges: dynamic quantisation finds its own at every step. Leave it out.")
    return replace(target, quantization=replace(
        target.quantization, ranges=ranges or target.quantization.ranges,
        leave_out=(*target.quantization.leave_out, *leave_out)))


def is_calibrated(target: Target, cache_dtype: str, sensitivity: bool) -> bool:
    """Does a bundle need a calibration set?"""
    int8 = target.quantization
    return sensitivity or cache_dtype == "int8" or (int8 is not None and (
        int8.method == "static" or AUTO in int8.leave_out))


def plan_build(target: Target, *, calibration: str | None = None, data: str = "synthetic",
               cache_dtype: str = "fp32", sensitivity: bool = False) -> BuildOptions:
    """The build options of a target: `calibration` is a set in place of its own, `data` the labelled set that
    gates, which in ESC-50 layout also holds the recordings of the calibration set esc50.

    Raises `UsageError` for a set where nothing is calibrated or that does not exist, `DataError` for a
    damaged one."""
    if calibration and not is_calibrated(target, cache_dtype, sensitivity):
        raise UsageError("--calibration: nothing here is calibrated. Leave it out, or ask for --int8.")
    chosen = find_calibration(calibration or (target.quantization or Quantization()).calibration)
    recordings = Path(data) if chosen.source == "esc50" and is_esc50(data) else None
    return BuildOptions(calibration=chosen, recordings=recordings, cache_dtype=cache_dtype,
                        sensitivity=sensitivity)


def gate_folds(data: str, folds: Sequence[int] | None, calibration: CalibrationSet) -> Sequence[int] | None:
    """The folds of a labelled set that gate: those that are asked for, else those that the calibration set
    leaves for it."""
    return folds or default_folds(data, calibration)
