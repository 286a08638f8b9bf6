"""Targets: what is wanted on which device, one TOML each in `targets/`."""

from __future__ import annotations

import dataclasses
import re
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from satexport.backends import BACKENDS
from satexport.errors import DataError, UsageError

MAX_THREADS = 256  # more only fills the memory with stacks
# The folder lies beside the package in a checkout and inside it in a wheel.
FOLDER = next((f for f in (Path(__file__).parent / "targets", Path(__file__).parents[1] / "targets")
               if f.is_dir()), Path(__file__).parent / "targets")


@dataclass(frozen=True)
class Gates:
    """What a bundle must keep of PyTorch fp32 with the same weights."""

    max_score_difference: float  # largest of any class in any chunk
    map_kept: float              # bundle's mAP / PyTorch's, over a labelled set


@dataclass(frozen=True)
class Target:
    """One TOML; the keys are the fields, the name that of the bundle's folder."""

    name: str
    backend: str
    precision: str
    gates: Gates
    threads: int = 0             # 0: the runtime decides

    def to_dict(self) -> dict[str, Any]:
        return dataclasses.asdict(self)

    @classmethod
    def from_dict(cls, fields: dict[str, Any], where: Path) -> Target:
        """Check names, types and ranges; raises `DataError` that names `where`."""
        gates = fields.get("gates", {})
        if not isinstance(gates, dict):
            raise DataError(f"{where}: gates is {gates!r}, expected a table [gates].")
        rest = {key: value for key, value in fields.items() if key != "gates"}
        target = cls(**_checked(cls, rest, where), gates=Gates(**_checked(Gates, gates, where)))
        for name, value, fits, expected in (
                ("name", target.name, re.fullmatch(r"\w[\w.+-]*", target.name),
                 "one that can be a folder's: letters, digits and . + - _"),
                ("backend", target.backend, target.backend in BACKENDS, " or ".join(BACKENDS)),
                ("threads", target.threads, 0 <= target.threads <= MAX_THREADS, f"0 to {MAX_THREADS}"),
                ("max_score_difference", target.gates.max_score_difference,
                 0 < target.gates.max_score_difference < 1, "more than 0, less than 1"),
                ("map_kept", target.gates.map_kept, 0 < target.gates.map_kept <= 1,
                 "more than 0, at most 1")):
            if not fits:
                raise DataError(f"{where}: {name} is {value!r}, expected {expected}.")
        return target


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
        shipped = ", ".join(sorted(p.stem for p in FOLDER.glob("*.toml")))
        raise UsageError(f"no target {what!r}; there are {shipped}, or pass a FILE.toml.") from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError, OSError) as error:
        raise DataError(f"{path} is no readable TOML: {error}.") from None
    return Target.from_dict(fields, path)


_TYPES: dict[str, tuple[type, ...]] = {"str": (str,), "int": (int,), "float": (int, float)}


def _checked(kind: type[Target] | type[Gates], fields: dict[str, Any], path: Path) -> dict[str, Any]:
    """The fields of a table if they are those of the dataclass, strict about names and types."""
    known = {f.name: f for f in dataclasses.fields(kind) if f.name != "gates"}
    needed = {n for n, f in known.items() if f.default is dataclasses.MISSING}
    if unknown := sorted(set(fields) - set(known)):
        raise DataError(f"{path}: unknown key {unknown[0]!r}; the keys are {', '.join(known)}.")
    if absent := sorted(needed - set(fields)):
        raise DataError(f"{path}: lacks the key {absent[0]!r}.")
    for name, value in fields.items():
        if not isinstance(value, _TYPES[str(known[name].type)]) or isinstance(value, bool):
            raise DataError(f"{path}: {name} is {value!r}, expected {known[name].type}.")
    return fields
