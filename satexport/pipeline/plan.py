"""The options of a build, and the checks of how they go together that are possible before any work."""

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
    """An export to make first, and then a bundle from it."""

    model: str
    delay: int | None = None          # s; None: the default of `find_variant`
    window: int | None = None         # s; None: as long as the delay
    checkpoint: str = "published"     # or "demo", "random", a file, "hub:OWNER/REPO"
    labels: Path | None = None
    options: GraphOptions = USUAL_OPTIONS


@dataclass(frozen=True, kw_only=True)
class BuildOptions:
    """Build options that are not in the target."""

    calibration: CalibrationSet
    recordings: Path | None = None   # folder of the calibration set's recordings; None: the set names it
    cache_dtype: str = "fp32"        # or "fp16", "int8"
    sensitivity: bool = False        # measure how much int8 in each layer changes the scores


@dataclass(frozen=True, kw_only=True)
class ProofOptions:
    """How to prove and measure a bundle."""

    data: str = "synthetic"           # the labelled set that gates
    folds: Sequence[int] | None = None
    category_map: Path | None = None
    require_data: bool = False        # a gate that could not be judged fails
    checkpoint: str | None = None     # file with the bundle's weights; None: found by their SHA-256
    minutes: float = 10.0             # length of the stream
    threads: int | None = None        # None: the target's. If it sets none, as many as live
                                      # streams need
    measure: bool = True


def apply_choices(target: Target, *, ranges: str | None = None, leave_out: Sequence[str] = (),
                  sensitivity: bool = False) -> Target:
    """Return a target with these choices instead of its own; layers of `leave_out` are added to the target's.
    Raises `UsageError` for a choice that does not apply to the target."""
    if not target.quantization:
        for option, value in (("--ranges", ranges), ("--leave-out", leave_out),
                              ("--sensitivity", sensitivity)):
            if value:
                raise UsageError(f"{option} applies only to int8: leave it out, or add --int8.")
        return target
    if ranges and target.quantization.method == "dynamic":
        raise UsageError("--ranges: dynamic quantisation computes ranges at every step. Leave it out.")
    return replace(target, quantization=replace(
        target.quantization, ranges=ranges or target.quantization.ranges,
        leave_out=(*target.quantization.leave_out, *leave_out)))


def needs_calibration(target: Target, cache_dtype: str, sensitivity: bool) -> bool:
    """Return whether building a bundle needs a calibration set."""
    int8 = target.quantization
    return sensitivity or cache_dtype == "int8" or (int8 is not None and (
        int8.method == "static" or AUTO in int8.leave_out))


def plan_build(target: Target, *, calibration: str | None = None, data: str = "synthetic",
               cache_dtype: str = "fp32", sensitivity: bool = False) -> BuildOptions:
    """Return the build options of a target. `calibration` is a set to use instead of the target's; `data` is
    the labelled set that gates, which in ESC-50 layout also holds the recordings of the calibration set
    esc50.

    Raises `UsageError` for a set that does not exist or if nothing needs calibration, `DataError` for a
    damaged set.
    """
    if calibration and not needs_calibration(target, cache_dtype, sensitivity):
        raise UsageError("--calibration: this bundle needs no calibration. Leave it out, or add --int8.")
    chosen = find_calibration(calibration or (target.quantization or Quantization()).calibration)
    recordings = Path(data) if chosen.source == "esc50" and is_esc50(data) else None
    return BuildOptions(calibration=chosen, recordings=recordings, cache_dtype=cache_dtype,
                        sensitivity=sensitivity)


def choose_gate_folds(data: str, folds: Sequence[int] | None,
                      calibration: CalibrationSet) -> Sequence[int] | None:
    """Return the folds of a labelled set to gate on: `folds`, by default the `gate_folds` of the calibration
    set; None for a set without folds."""
    return folds or default_folds(data, calibration)
