"""The table [openvino] of a target."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from satexport import facts
from satexport.backends.backend import read_settings
from satexport.bundle.target import AUTO, MAX_THREADS, Target

CHOICES: dict[str, tuple[object, ...]] = {"floats": (AUTO, "bf16", "fp32"), "weights": ("fp32", "fp16")}


@dataclass(frozen=True, kw_only=True)
class OpenVinoSettings:
    """How OpenVINO runs a model; see `satexport.backends.openvino.write`."""

    device: str = "CPU"       # OpenVINO's name of the device; only "CPU" was tried
    stateful: bool = True     # the infer request keeps the cache; false: cache inputs and outputs as in ONNX
    floats: str = AUTO        # precision of what is not quantised, "bf16" or "fp32"; AUTO: the target's
                              # precision; for int8: bf16 if the machine that builds the bundle has it
    weights: str = "fp32"     # dtype in which weights are stored; "fp16" halves their size
    requests: int = 1         # infer requests that share the streams of a step and run in parallel
    model_cache: bool = False  # keep the compiled model in the user's cache folder, to load faster

    @classmethod
    def of(cls, target: Target, where: Path = Path("[openvino]")) -> OpenVinoSettings:
        """Read the settings of a target. Raises a `DataError` that begins with `where`."""
        return read_settings(cls, target, where)


def conditions(target: Target, settings: OpenVinoSettings) -> Iterator[facts.Condition]:
    """The conditions that the settings of a target must meet."""
    for name, choices in CHOICES.items():
        value = getattr(settings, name)
        yield name, value, value in choices, " or ".join(map(str, choices))
    yield "requests", settings.requests, 1 <= settings.requests <= MAX_THREADS, f"1 to {MAX_THREADS}"
    fits = target.precision == "int8" or settings.floats in (AUTO, target.precision)
    yield "floats", settings.floats, fits, f"{target.precision}, the same as precision, or no such key"
