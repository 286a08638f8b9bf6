"""Facts: TOML files, shipped with satexport or a user's own, read strictly into dataclasses."""

from __future__ import annotations

import dataclasses
import sys
from collections.abc import Iterable
from pathlib import Path
from types import NoneType
from typing import Any

from satexport.errors import DataError, UsageError

Condition = tuple[str, object, bool, str]  # key, value, whether it can be meant, what can


def shipped_folder(name: str) -> Path:
    """Where the shipped TOMLs of a kind lie: beside the package in a checkout, inside it in a wheel."""
    inside = Path(__file__).parent / name
    return inside if inside.is_dir() else Path(__file__).parents[1] / name


def names(folder: Path) -> list[str]:
    """The names of the TOMLs in a folder, sorted."""
    return sorted(path.stem for path in folder.glob("*.toml"))


def read_facts(folder: Path, what: str, kind: str) -> tuple[dict[str, Any], Path]:
    """The content and the path of a shipped TOML by name, or of a file that ends in .toml.

    Raises `UsageError` for a name or file that does not exist, `DataError` for one that is no TOML.
    """
    if sys.version_info >= (3, 11):
        import tomllib
    else:
        import tomli as tomllib  # type: ignore[import-not-found]

    path = Path(what) if what.endswith(".toml") else folder / f"{what}.toml"
    try:
        return tomllib.loads(path.read_text("utf-8")), path
    except FileNotFoundError:
        raise UsageError(f"no {kind} {what!r}; there are {', '.join(names(folder))}, or pass a FILE.toml."
                         ) from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError, OSError) as error:
        raise DataError(f"{path} is no readable TOML: {error}.") from None


def checked(kind: type[Any], fields: dict[str, Any], where: Path,
            tables: Iterable[str] = ()) -> dict[str, Any]:
    """The fields if they are those of the dataclass, strict about names and types; `tables` are fields
    that are read by themselves. JSON, unlike TOML, has a null, which an optional key may be.

    Raises `DataError` that names `where` and the key.
    """
    known = {f.name: f for f in dataclasses.fields(kind) if f.name not in tables}
    needed = {n for n, f in known.items()
              if f.default is dataclasses.MISSING and f.default_factory is dataclasses.MISSING}
    if unknown := sorted(set(fields) - set(known)):
        raise DataError(f"{where}: unknown key {unknown[0]!r}; the keys are {', '.join(known)}.")
    if absent := sorted(needed - set(fields)):
        raise DataError(f"{where}: lacks the key {absent[0]!r}.")
    result = {}
    for name, value in fields.items():
        expected = str(known[name].type)
        if not _is(value, expected):
            raise DataError(f"{where}: {name} is {value!r}, expected {_WORDS.get(expected, expected)}.")
        result[name] = tuple(value) if expected.startswith("tuple") else value
    return result


_WORDS = {"tuple[str, ...]": "a list of texts", "tuple[int, ...]": "a list of numbers",
          "dict[str, str]": "a table of texts"}
_TYPES: dict[str, tuple[type, ...]] = {"str": (str,), "int": (int,), "float": (int, float), "bool": (bool,)}


def _is(value: object, expected: str) -> bool:
    """Is a value of the type that a dataclass's annotation names?"""
    plain, optional, _ = expected.partition(" | None")
    if optional and isinstance(value, NoneType):
        return True
    if plain.startswith("tuple["):
        return isinstance(value, list | tuple) and all(_is(entry, plain[6:9]) for entry in value)
    if plain.startswith("dict["):
        return isinstance(value, dict) and all(_is(entry, "str") for entry in (*value, *value.values()))
    return isinstance(value, _TYPES[plain]) and (plain == "bool" or not isinstance(value, bool))


def demand(conditions: Iterable[Condition], where: Path) -> None:
    """Raise `DataError` for the first value that cannot be meant."""
    for name, value, fits, expected in conditions:
        if not fits:
            raise DataError(f"{where}: {name} is {value!r}, expected {expected}.")
