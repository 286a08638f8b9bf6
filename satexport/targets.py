"""Targets: what is wanted on which device, one TOML each in `targets/`."""

from __future__ import annotations

import dataclasses
import re
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from types import NoneType
from typing import Any

from satexport.backends import BACKENDS
from satexport.errors import DataError, UsageError
from satexport.variants import VARIANTS

MAX_THREADS = 256  # more only fills the memory with stacks
MAX_STEP_MS = 1000 * max(delay for _, delay in VARIANTS)  # of the longest chunk
# The folder lies beside the package in a checkout and inside it in a wheel.
FOLDER = next((f for f in (Path(__file__).parent / "targets", Path(__file__).parents[1] / "targets")
               if f.is_dir()), Path(__file__).parent / "targets")


@dataclass(frozen=True)
class Gates:
    """What a bundle must keep of PyTorch fp32 with the same weights."""

    max_score_difference: float  # largest of any class in any chunk
    map_kept: float              # bundle's mAP / PyTorch's, over a labelled set


@dataclass(frozen=True)
class Budgets:
    """What a bundle may take on the device; None: there is no such limit. A MB is 1e6 bytes."""

    step_ms: float | None = None       # p99 of a single step, ms, in bursts and after pauses alike
    resident_mb: float | None = None   # peak resident size of a fresh process that loads and runs the
                                       # bundle, above the same process after its imports, MB
    transient_mb: float | None = None  # allocated inside one steady step, arena off, MB


@dataclass(frozen=True)
class Quantization:
    """How int8 is written into the graph; see `satexport.quantize`."""

    method: str = "static"         # ranges from a calibration; "dynamic": anew at every step
    scheme: str = "onnxruntime"    # or "qdq": symmetric, standard operators
    ranges: str = "minmax"         # or "percentile", "entropy"
    percentile: float = 99.999     # of "percentile"
    symmetric: bool = False        # activations around zero, in "onnxruntime"; "qdq" always is
    per_channel: bool = True       # a scale for each column of a weight
    weight_bits: int = 8           # 7 for CPUs without VNNI, whose products of 8 bits saturate
    leave_out: tuple[str, ...] = ()  # layers that stay in float, such as "00.fc1"
    calibration: str = "synthetic"   # a set in calibration/, or a TOML


@dataclass(frozen=True)
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

    def to_dict(self) -> dict[str, Any]:
        return dataclasses.asdict(self)

    @classmethod
    def from_dict(cls, fields: dict[str, Any], where: Path) -> Target:
        """Check names, types and ranges; raises `DataError` that names `where`."""
        rest = {key: value for key, value in fields.items() if key not in _TABLES}
        target = cls(**_checked(cls, rest, where), gates=Gates(**_table(fields, "gates", where)),
                     budgets=Budgets(**_table(fields, "budgets", where)),
                     quantization=_quantization(fields, where))
        for name, value, fits, expected in _conditions(target):
            if not fits:
                raise DataError(f"{where}: {name} is {value!r}, expected {expected}.")
        return target


def _conditions(target: Target) -> Iterator[tuple[str, object, bool, str]]:
    """Key, value, whether it can be meant, and what can."""
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
           f"more than 0, at most {MAX_STEP_MS}: every step takes time, and one slower than the longest "
           "chunk never keeps up")
    for name, size in (("resident_mb", budgets.resident_mb), ("transient_mb", budgets.transient_mb)):
        yield (name, size, _within(size, sys.float_info.max),
               "more than 0 and finite: every step takes memory; for no limit leave the key out")


def _within(value: float | None, limit: float) -> bool:
    return value is None or 0 < value <= limit


def shipped() -> list[Target]:
    """The targets that come with satexport, sorted by name."""
    return sorted((find_target(path.stem) for path in FOLDER.glob("*.toml")), key=lambda t: t.name)


def find_target(what: str) -> Target:
    """Return a shipped target by name or one from a TOML file by path.

    Raises `UsageError` for an unknown name, `DataError` for a file that is damaged, lacks a key
    or has one that does not exist.
    """
    if sys.version_info >= (3, 11):
        import tomllib
    else:
        import tomli as tomllib  # type: ignore[import-not-found]

    path = Path(what) if what.endswith(".toml") else FOLDER / f"{what}.toml"
    try:
        fields = tomllib.loads(path.read_text("utf-8"))
    except FileNotFoundError:
        names = ", ".join(sorted(p.stem for p in FOLDER.glob("*.toml")))
        raise UsageError(f"no target {what!r}; there are {names}, or pass a FILE.toml.") from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError, OSError) as error:
        raise DataError(f"{path} is no readable TOML: {error}.") from None
    target = Target.from_dict(fields, path)
    if target.backend not in BACKENDS:  # a bundle for one that is not here says so when it is loaded
        raise DataError(f"{path}: backend is {target.backend!r}, expected {' or '.join(BACKENDS)}.")
    return target


_Table = type[Gates] | type[Budgets] | type[Quantization]
_TABLES: dict[str, _Table] = {"gates": Gates, "budgets": Budgets, "quantization": Quantization}
_TYPES: dict[str, tuple[type, ...]] = {"str": (str,), "int": (int,), "float": (int, float), "bool": (bool,),
                                       "tuple[str, ...]": (list, tuple)}
_CHOICES = {"method": ("static", "dynamic"), "scheme": ("onnxruntime", "qdq"),
            "ranges": ("minmax", "percentile", "entropy"), "weight_bits": (7, 8)}


def _quantization(fields: dict[str, Any], path: Path) -> Quantization | None:
    """The table [quantization], None where there is none."""
    if fields.get("quantization") is None:
        return None
    found = _table(fields, "quantization", path)
    for name, choices in _CHOICES.items():
        if name in found and found[name] not in choices:
            raise DataError(f"{path}: {name} is {found[name]!r}, expected {' or '.join(map(str, choices))}.")
    if not 50 < found.get("percentile", 99.0) <= 100:
        raise DataError(f"{path}: percentile is {found['percentile']!r}, expected more than 50, at most 100.")
    return Quantization(**{**found, "leave_out": tuple(map(str, found.get("leave_out", ())))})


def _table(fields: dict[str, Any], name: str, path: Path) -> dict[str, Any]:
    """The checked fields of a table in the TOML, {} where it is absent and needs no key."""
    table = fields.get(name, {})
    if not isinstance(table, dict):
        raise DataError(f"{path}: {name} is {table!r}, expected a table [{name}].")
    return _checked(_TABLES[name], table, path)


def _checked(kind: type[Target] | _Table, fields: dict[str, Any], path: Path) -> dict[str, Any]:
    """The fields of a table if they are those of the dataclass, strict about names and types.
    JSON, unlike TOML, has a null, which an optional key may be."""
    known = {f.name: f for f in dataclasses.fields(kind) if f.name not in _TABLES}
    needed = {n for n, f in known.items() if f.default is dataclasses.MISSING}
    if unknown := sorted(set(fields) - set(known)):
        raise DataError(f"{path}: unknown key {unknown[0]!r}; the keys are {', '.join(known)}.")
    if absent := sorted(needed - set(fields)):
        raise DataError(f"{path}: lacks the key {absent[0]!r}.")
    for name, value in fields.items():
        expected, optional, _ = str(known[name].type).partition(" | None")
        types = (*_TYPES[expected], NoneType) if optional else _TYPES[expected]
        if not isinstance(value, types) or (isinstance(value, bool) and expected != "bool"):
            raise DataError(f"{path}: {name} is {value!r}, expected {expected}.")
    return fields
