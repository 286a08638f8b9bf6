"""A target: what is wanted on which device, as one TOML says it.

It knows no runtime: the table that bears the backend's name, such as [openvino], is kept as it stands, and
checked and read by that backend (`satexport.backends`).
"""

from __future__ import annotations

import dataclasses
import re
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from satexport import facts
from satexport.bundle.roles import ATTENTION, WITH_WEIGHTS
from satexport.errors import DataError
from satexport.terminal import shown

MAX_THREADS = 256  # more only fills the memory with stacks
MAX_STEP_MS = 60_000
AUTO = "auto"
OPERATORS = (*WITH_WEIGHTS, ATTENTION)
CHOICES: dict[str, tuple[object, ...]] = {
    "method": ("static", "dynamic"), "scheme": ("onnxruntime", "qdq"),
    "ranges": ("minmax", "percentile", "entropy"), "weight_bits": (7, 8), "scales": ("fp32", "fp16")}


@dataclass(frozen=True)
class Gates:
    """What a bundle must keep of PyTorch fp32 with the same weights."""

    max_score_difference: float  # largest of any class in any chunk
    map_kept: float              # bundle's mAP / PyTorch's, over a labelled set


@dataclass(frozen=True, kw_only=True)
class Budgets:
    """What a bundle may take on the device; None: there is no such limit. A MB is 1e6 bytes."""

    step_ms: float | None = None       # p99 of a single step, ms, in bursts and after pauses alike
    resident_mb: float | None = None   # peak resident size of a fresh process that loads and runs the
                                       # bundle, above the same process after its imports, MB
    transient_mb: float | None = None  # allocated inside one steady step, arena off, MB
    device_mb: float | None = None     # of a TensorRT engine with its buffers, judged where it is built, MB


@dataclass(frozen=True, kw_only=True)
class Quantization:
    """How int8 is written into the graph; see `satexport.quantize`."""

    operators: tuple[str, ...] = ("linear",)  # the products in int8, of OPERATORS
    method: str = "static"         # ranges from a calibration; "dynamic": anew at every step
    scheme: str = "onnxruntime"    # or "qdq": standard operators, for OpenVINO and TensorRT
    ranges: str = "minmax"         # or "percentile", "entropy"
    percentile: float = 99.999     # of "percentile"
    symmetric: bool = False        # activations around zero, as TensorRT needs them
    per_channel: bool = True       # a scale for each column of a weight
    weight_bits: int = 8           # 7 for CPUs without VNNI, whose products of 8 bits saturate
    scales: str = "fp32"           # or "fp16": rounded to it, as TensorRT needs them beside fp16
    leave_out: tuple[str, ...] = ()  # layers that stay in float, such as "00.fc1"; AUTO among them: as
                                     # few as the mAP gate needs
    calibration: str = "synthetic"   # a set in calibration/, or a TOML


@dataclass(frozen=True, kw_only=True)
class Target:
    """One TOML; the keys are the fields, the name that of the bundle's folder."""

    name: str
    backend: str
    precision: str
    gates: Gates
    threads: int | None = None   # None: the runtime decides
    description: str = ""        # one line for people
    budgets: Budgets = Budgets()
    quantization: Quantization | None = None  # of int8
    options: Mapping[str, Any] = field(default_factory=dict)  # the table with the backend's name

    def to_dict(self) -> dict[str, Any]:
        """As in the TOML: the options under the backend's name, where there are any."""
        fields = dataclasses.asdict(self)
        options = fields.pop("options")
        return fields | ({self.backend: options} if options else {})

    @classmethod
    def from_dict(cls, fields: Mapping[str, Any], where: Path) -> Target:
        """Check names, types and ranges of all but the backend's own table, which the backend checks. Raises
        `DataError` that names `where`."""
        backend = fields.get("backend")
        own = backend if isinstance(backend, str) and backend not in _FIELDS else ""
        rest = {key: value for key, value in fields.items() if key not in {*_TABLES, own}}
        if own and (unknown := sorted(set(rest) - (_FIELDS - {"options"}))):
            raise DataError(f"{where}: unknown key {shown(unknown[0])}; the keys are "
                            f"{', '.join(sorted(_FIELDS - {'options', *_TABLES}))}, the tables "
                            f"{', '.join(f'[{name}]' for name in (*_TABLES, own))}.")
        quantization = None
        if fields.get("quantization") is not None:
            quantization = Quantization(**_read_table(fields, "quantization", where))
        target = cls(**facts.check_fields(cls, rest, where, (*_TABLES, "options")), quantization=quantization,
                     gates=Gates(**_read_table(fields, "gates", where)),
                     budgets=Budgets(**_read_table(fields, "budgets", where)),
                     options=_table(fields, own, where))
        facts.check_values(_conditions(target), where)
        return target


_TABLES: dict[str, type[Any]] = {"gates": Gates, "budgets": Budgets, "quantization": Quantization}
_FIELDS = {f.name for f in dataclasses.fields(Target)}


def _table(fields: Mapping[str, Any], name: str, where: Path) -> dict[str, Any]:
    """A table of the TOML as it stands, {} where it is absent."""
    table = fields.get(name, {})
    if not isinstance(table, dict):
        raise DataError(f"{where}: {name} is {shown(table)}, expected a table [{name}].")
    return table


def _read_table(fields: Mapping[str, Any], name: str, where: Path) -> dict[str, Any]:
    """The checked fields of a table of _TABLES, {} where it is absent and needs no key."""
    return facts.check_fields(_TABLES[name], _table(fields, name, where), where, table=name)


def _conditions(target: Target) -> Iterator[facts.Condition]:
    yield ("name", target.name, re.fullmatch(r"\w[\w.+-]*", target.name) is not None,
           "one that can be a folder's: letters, digits and . + - _")
    yield ("threads", target.threads, target.threads is None or 1 <= target.threads <= MAX_THREADS,
           f"1 to {MAX_THREADS}; without the key the runtime decides")
    yield ("description", target.description, target.description.isprintable(),
           "one line of printable characters")
    gates, budgets = target.gates, target.budgets
    yield ("max_score_difference", gates.max_score_difference, 0 < gates.max_score_difference < 1,
           "more than 0, less than 1")
    yield "map_kept", gates.map_kept, 0 < gates.map_kept <= 1, "more than 0, at most 1"
    yield ("step_ms", budgets.step_ms, _within(budgets.step_ms, MAX_STEP_MS),
           f"more than 0, at most {MAX_STEP_MS}: every step takes time, and none a minute")
    for name, size in (("resident_mb", budgets.resident_mb), ("transient_mb", budgets.transient_mb),
                       ("device_mb", budgets.device_mb)):
        yield (name, size, _within(size, sys.float_info.max),
               "more than 0 and finite: every step takes memory; for no limit leave the key out")
    yield ("precision", target.precision, (target.precision == "int8") == (target.quantization is not None),
           "int8 with a table [quantization], which may be empty, and nothing else with one")
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


def _within(value: float | None, limit: float) -> bool:
    return value is None or 0 < value <= limit
