"""A target: the device, backend, precision, gates and budgets of a bundle, read from one TOML.

This module knows no runtime: the table with the backend's name, such as [openvino], is kept unparsed; the
backend (`satexport.backends`) checks and reads it.
"""

from __future__ import annotations

import dataclasses
import math
import re
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from satexport import facts
from satexport.bundle.gates import METRICS
from satexport.bundle.roles import ATTENTION, WITH_WEIGHTS
from satexport.errors import DataError
from satexport.terminal import shown

MAX_THREADS = 256  # more threads only use memory for their stacks
MAX_STEP_MS = 60_000
AUTO = "auto"
OPERATORS = (*WITH_WEIGHTS, ATTENTION)
CHOICES: dict[str, tuple[object, ...]] = {
    "method": ("static", "dynamic"), "scheme": ("onnxruntime", "qdq"),
    "ranges": ("minmax", "percentile", "entropy"), "weight_bits": (7, 8), "scales": ("fp32", "fp16")}


@dataclass(frozen=True, kw_only=True)
class Gates:
    """Limits on the deviation of a bundle from PyTorch fp32 with the same weights."""

    max_score_difference: float  # largest absolute difference, over all classes and chunks
    map_kept: float              # smallest ratio of the bundle's mAP to PyTorch's, on a labelled set
    max_score_difference_of: dict[str, float] = field(default_factory=dict)  # the same for families of models
                                 # whose single scores move more
    max_embedding_difference: float | None = None  # largest relative difference of embeddings, median of the
                                                   # chunks
    max_embedding_difference_worst: float | None = None  # the same, of the worst chunk
    min_embedding_cosine: float | None = None  # smallest cosine of embeddings, median of the chunks
    min_embedding_cosine_of: dict[str, float] = field(default_factory=dict)  # the same for families of models
                                               # whose embeddings move more
    metrics: dict[str, float] = field(default_factory=dict)  # limits of the bundle's metrics on the labelled
                                                             # set, by name (docs/metrics.md)

    def for_family(self, family: str) -> Gates:
        """The gates of a bundle whose model is of this family."""
        return dataclasses.replace(
            self, max_score_difference_of={}, min_embedding_cosine_of={},
            max_score_difference=self.max_score_difference_of.get(family, self.max_score_difference),
            min_embedding_cosine=self.min_embedding_cosine_of.get(family, self.min_embedding_cosine))


@dataclass(frozen=True, kw_only=True)
class Budgets:
    """Limits on the time and memory of a bundle on the device; None: no limit. 1 MB is 1e6 bytes."""

    step_ms: float | None = None       # p99 of a single step, ms, both in bursts and after pauses
    resident_mb: float | None = None   # peak resident memory of a fresh process that loads and runs the
                                       # bundle, minus that of the process after its imports, MB
    transient_mb: float | None = None  # allocated within one step in steady state, arena off, MB
    device_mb: float | None = None     # of a TensorRT engine and its buffers, checked when it is built, MB


@dataclass(frozen=True, kw_only=True)
class Quantization:
    """How a graph is quantized to int8; see `satexport.quantize`."""

    operators: tuple[str, ...] = ("linear",)  # the kinds of products in int8, from OPERATORS
    method: str = "static"         # ranges from calibration; "dynamic": computed in every step
    scheme: str = "onnxruntime"    # or "qdq": standard operators, for OpenVINO and TensorRT
    ranges: str = "minmax"         # or "percentile", "entropy"
    percentile: float = 99.999     # for ranges = "percentile"
    symmetric: bool = False        # zero point 0 for activations, as TensorRT requires
    per_channel: bool = True       # a separate scale for each output channel of a weight
    weight_bits: int = 8           # 7 for CPUs without VNNI, where products of 8-bit values saturate
    equalize: bool = True          # scale the channels of convolutions so that they use the int8 range alike
    scales: str = "fp32"           # or "fp16": rounded to fp16, as TensorRT requires in mixed precision
    leave_out: tuple[str, ...] = ()  # layers that stay in float, such as "00.fc1"; AUTO adds as few as the
                                     # mAP gate needs
    calibration: str = "synthetic"   # a set in calibration/, or a TOML file


@dataclass(frozen=True, kw_only=True)
class Target:
    """The content of one TOML; its keys are the fields."""

    name: str                    # also of the bundle's folder
    backend: str
    precision: str
    gates: Gates
    threads: int | None = None   # None: as many as live streams need, see `satexport.bundle.threads`
    machine: str = ""            # as `uname -m` prints it; budgets are judged only there. "": anywhere
    description: str = ""        # one line
    budgets: Budgets = Budgets()
    quantization: Quantization | None = None  # only for int8
    options: Mapping[str, Any] = field(default_factory=dict)  # the table with the backend's name

    def to_dict(self) -> dict[str, Any]:
        """As in the TOML: the options, if any, under the backend's name."""
        fields = dataclasses.asdict(self)
        options = fields.pop("options")
        return fields | ({self.backend: options} if options else {})

    @classmethod
    def from_dict(cls, fields: Mapping[str, Any], where: Path) -> Target:
        """Check the names, types and ranges of everything except the backend's table, which the backend
        checks. Raises `DataError`, whose message names the file `where`."""
        backend = fields.get("backend")
        backend_table = backend if isinstance(backend, str) and backend not in _FIELDS else ""
        rest = {key: value for key, value in fields.items() if key not in {*_TABLES, backend_table}}
        if backend_table and (unknown := sorted(set(rest) - (_FIELDS - {"options"}))):
            raise DataError(f"{where}: unknown key {shown(unknown[0])}; the keys are "
                            f"{', '.join(sorted(_FIELDS - {'options', *_TABLES}))}, the tables "
                            f"{', '.join(f'[{name}]' for name in (*_TABLES, backend_table))}.")
        quantization = None
        if fields.get("quantization") is not None:
            quantization = Quantization(**_read_table(fields, "quantization", where))
        target = cls(**facts.check_fields(cls, rest, where, (*_TABLES, "options")), quantization=quantization,
                     gates=Gates(**_read_table(fields, "gates", where)),
                     budgets=Budgets(**_read_table(fields, "budgets", where)),
                     options=_get_table(fields, backend_table, where))
        facts.check_values(_conditions(target), where)
        return target


_TABLES: dict[str, type[Any]] = {"gates": Gates, "budgets": Budgets, "quantization": Quantization}
_FIELDS = {f.name for f in dataclasses.fields(Target)}


def _get_table(fields: Mapping[str, Any], name: str, where: Path) -> dict[str, Any]:
    """A table of the TOML, unparsed; {} if it is absent."""
    table = fields.get(name, {})
    if not isinstance(table, dict):
        raise DataError(f"{where}: {name} is {shown(table)}, expected a table [{name}].")
    return table


def _read_table(fields: Mapping[str, Any], name: str, where: Path) -> dict[str, Any]:
    """The checked fields of a table of _TABLES; {} if it is absent and has no required key."""
    return facts.check_fields(_TABLES[name], _get_table(fields, name, where), where, table=name)


def _conditions(target: Target) -> Iterator[facts.Condition]:
    yield ("name", target.name, re.fullmatch(r"\w[\w.+-]*", target.name) is not None,
           "a valid folder name of letters, digits and . + - _")
    yield ("threads", target.threads, target.threads is None or 1 <= target.threads <= MAX_THREADS,
           f"1 to {MAX_THREADS}; omit the key to use as few as live streams need")
    yield ("machine", target.machine, re.fullmatch(r"\w*", target.machine) is not None,
           "the name that `uname -m` prints on the device, such as aarch64")
    yield ("description", target.description, target.description.isprintable(),
           "one line of printable characters")
    gates, budgets = target.gates, target.budgets
    for name in ("max_score_difference", "max_score_difference_of"):
        for limit in _values(getattr(gates, name)):
            yield name, limit, 0 < limit < 1, "more than 0, less than 1"
    for name in ("max_embedding_difference", "max_embedding_difference_worst", "min_embedding_cosine",
                 "min_embedding_cosine_of"):
        for limit in _values(getattr(gates, name)):
            yield name, limit, 0 < limit <= 1, "more than 0, at most 1"
    for name, limit in gates.metrics.items():
        yield (f"in [gates.metrics], {shown(name)}", limit, name in METRICS,
               f"no such key; the metrics are {', '.join(METRICS)}")
        highest = math.inf if name == "d_prime" else 1
        yield f"in [gates.metrics], {name}", limit, 0 < limit <= highest, f"more than 0, at most {highest:g}"
    yield "map_kept", gates.map_kept, 0 < gates.map_kept <= 1, "more than 0, at most 1"
    yield ("step_ms", budgets.step_ms, _within(budgets.step_ms, MAX_STEP_MS),
           f"more than 0, at most {MAX_STEP_MS}")
    for name, size in (("resident_mb", budgets.resident_mb), ("transient_mb", budgets.transient_mb),
                       ("device_mb", budgets.device_mb)):
        yield (name, size, _within(size, sys.float_info.max),
               "more than 0 and finite; omit the key for no limit")
    yield ("precision", target.precision, (target.precision == "int8") == (target.quantization is not None),
           "int8 with a table [quantization], which may be empty, or another precision without one")
    if target.quantization:
        yield from _quantization_conditions(target.quantization)


def _quantization_conditions(quantization: Quantization) -> Iterator[facts.Condition]:
    for name, choices in CHOICES.items():
        value = getattr(quantization, name)
        yield name, value, value in choices, " or ".join(map(str, choices))
    operators, percentile = quantization.operators, quantization.percentile
    yield ("operators", list(operators), bool(operators) and set(operators) <= set(OPERATORS),
           f"one or more of {', '.join(OPERATORS)}")
    yield "percentile", percentile, 50 < percentile <= 100, "more than 50, at most 100"


def _values(value: float | Mapping[str, float] | None) -> list[float]:
    """The numbers of a key that is a number, a table of numbers, or absent."""
    return [] if value is None else list(value.values()) if isinstance(value, Mapping) else [value]


def _within(value: float | None, limit: float) -> bool:
    return value is None or 0 < value <= limit
