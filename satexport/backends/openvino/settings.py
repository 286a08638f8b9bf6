"""A target's table [openvino]."""

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

    device: str = "CPU"
    stateful: bool = True     # the request keeps the cache; false: cache inputs and outputs as in ONNX
    floats: str = AUTO        # precision of what is not quantised: "bf16", "fp32"; AUTO: that of the target,
                              # and for int8 bf16 where the device that the bundle is made on has it
    weights: str = "fp32"     # stored as; "fp16" halves them
    requests: int = 1         # that share the streams of a step and run at the same time
    model_cache: bool = False  # keep what OpenVINO compiled in the user's cache folder: it loads faster

    @classmethod
    def of(cls, target: Target, where: Path = Path("[openvino]")) -> OpenVinoSettings:
        """Those of a target. Raises `DataError` that begins with `where`."""
        return read_settings(cls, target, where)


def conditions(target: Target, settings: OpenVinoSettings) -> Iterator[facts.Condition]:
    """What the settings of a target must meet."""
    for name, choices in CHOICES.items():
        value = getattr(settings, name)
        yield name, value, value in choices, " or ".join(map(str, choices))
    yield "requests", settings.requests, 1 <= settings.requests <= MAX_THREADS, f"1 to {MAX_THREADS}"
    fits = target.precision == "int8" or settings.floats in (AUTO, target.precision)
    yield "floats", settings.floats, fits, f"{target.precision}, as the precision, or without the key"
