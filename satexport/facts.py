"""Facts: TOML files, shipped with satexport or written by users, parsed strictly into dataclasses."""

from __future__ import annotations

import dataclasses
import json
import sys
from collections.abc import Iterable
from pathlib import Path
from types import NoneType, UnionType
from typing import Any, get_args, get_origin, get_type_hints

from satexport.errors import DataError, UsageError
from satexport.files import PACKAGE_FOLDER, read_at_most
from satexport.terminal import shown

MAX_BYTES = 200_000    # of a TOML; enough for the checksums of 2000 clips
MAX_LINE = 1000        # characters; tomllib needs minutes for a key with many dots
Condition = tuple[str, object, bool, str]  # key, value, whether the value is valid, what is expected


def shipped_folder(name: str) -> Path:
    """The folder of the shipped TOMLs of a kind: next to the package in a checkout, inside it in a wheel."""
    inside = PACKAGE_FOLDER / name
    return inside if inside.is_dir() else PACKAGE_FOLDER.parent / name


def names(folder: Path) -> list[str]:
    """The names of the TOMLs in a folder, sorted."""
    return sorted(path.stem for path in folder.glob("*.toml"))


def read_facts(folder: Path, what: str, kind: str) -> tuple[dict[str, Any], Path]:
    """The content and path of a shipped TOML, if `what` is its name, or of a user's, if it ends in .toml.
    `kind` describes the TOML in messages.

    Raises `UsageError` for a name or file that does not exist, `DataError` for a file that is not valid TOML.
    """
    if what.endswith(".toml"):
        path = Path(what)
    elif what in names(folder):
        path = folder / f"{what}.toml"
    else:
        raise UsageError(f"there is no {kind} {what!r}; expected one of {', '.join(names(folder))}, or a "
                         "FILE.toml.")
    return read_toml(path, f"a TOML of a {kind}, or one of the names {', '.join(names(folder))}"), path


def read_toml(path: Path, expected: str, max_bytes: int = MAX_BYTES) -> dict[str, Any]:
    """The content of a TOML file of at most `max_bytes`. Raises `UsageError`, with what is `expected`, if
    there is no such file, `DataError` if it is not valid TOML."""
    if sys.version_info >= (3, 11):
        import tomllib
    else:
        import tomli as tomllib  # type: ignore[import-not-found]

    try:
        text = read_at_most(path, max_bytes).decode("utf-8")
        if long := [n for n, line in enumerate(text.split("\n"), start=1) if len(line) > MAX_LINE]:
            raise DataError(f"{path} is not a readable TOML: line {long[0]} has more than {MAX_LINE} "
                            "characters. Split a list into several lines. Write a table such as checksums = "
                            "{...} at the end of the file, as a line [checksums] and a line for each entry.")
        content: dict[str, Any] = tomllib.loads(text)
    except FileNotFoundError:
        raise UsageError(f"{path}: no such file; expected {expected}.") from None
    except IsADirectoryError:
        raise DataError(f"{path} is not a readable TOML: it is a folder.") from None
    except RecursionError:
        raise DataError(f"{path} is not a readable TOML: it is nested too deeply.") from None
    except (ValueError, OSError) as error:  # ValueError: also a number with 5000 digits
        raise DataError(f"{path} is not a readable TOML: {error}.") from None
    return content


def check_fields(kind: type[Any], fields: dict[str, Any], where: Path,
                 tables: Iterable[str] = (), table: str = "") -> dict[str, Any]:
    """Check that the names and types of the fields are those of the dataclass `kind`, and return the fields.

    `tables` are fields of `kind` that are checked separately; `table` is the table that contains `fields`. An
    optional field can be None, which is null in JSON; TOML has no null. Raises `DataError`, whose message
    names the file `where` and the key.
    """
    known = {f.name: f for f in dataclasses.fields(kind) if f.name not in tables}
    required = {n for n, f in known.items()
                if f.default is dataclasses.MISSING and f.default_factory is dataclasses.MISSING}
    if unknown := sorted(set(fields) - set(known)):
        raise DataError(f"{where}: unknown key {shown(unknown[0])}; the keys are {', '.join(known)}.")
    if absent := sorted(required - set(fields)):
        raise DataError(f"{where}: the key {absent[0]!r} is missing{f' in [{table}]' if table else ''}.")
    hints, result = get_type_hints(kind), {}
    for name, value in fields.items():
        if not _has_type(value, hints[name]):
            raise DataError(f"{where}: {name} is {shown(value)}, expected {_describe_type(hints[name])}.")
        result[name] = tuple(value) if isinstance(value, list) else value
    return result


def toml_text(value: object) -> str:
    """A string, number or boolean, or a list of these, in TOML syntax."""
    return json.dumps(value, ensure_ascii=False).replace("\x7f", "\\u007f")


_TYPES = {  # in messages: one, and several in a list or table
    str: ("a string", "strings"), int: ("a whole number", "whole numbers"), float: ("a number", "numbers"),
    bool: ("true or false", "booleans")}


def _describe_type(hint: Any) -> str:
    """The name of a type in messages about a TOML."""
    origin, parts = get_origin(hint), get_args(hint)
    if origin is UnionType:
        return " or ".join(_describe_type(part) for part in parts if part is not NoneType)
    if origin is tuple:
        return f"a list of {_TYPES[parts[0]][1]}"
    if origin is dict:
        return f"a table of {_TYPES[parts[1]][1] if parts[1] in _TYPES else 'values'}"
    return _TYPES[hint][0]


def _has_type(value: object, hint: Any) -> bool:
    """Whether a value from TOML or JSON has the annotated type of a dataclass field. A list is valid for a
    tuple, a whole number for a float; a boolean is not a number."""
    origin, parts = get_origin(hint), get_args(hint)
    if hint is Any:
        return True
    if origin is UnionType:
        return any(_has_type(value, part) for part in parts)
    if origin is tuple:
        return isinstance(value, list | tuple) and (
            all(_has_type(entry, parts[0]) for entry in value) if parts[1:] == (...,) else
            len(value) == len(parts) and all(map(_has_type, value, parts)))
    if origin is dict:
        return isinstance(value, dict) and all(
            _has_type(key, parts[0]) and _has_type(entry, parts[1]) for key, entry in value.items())
    if isinstance(value, bool):
        return hint is bool
    return isinstance(value, (int, float) if hint is float else hint)


def check_values(conditions: Iterable[Condition], where: Path) -> None:
    """Raise `DataError` for the first invalid value."""
    for name, value, is_valid, expected in conditions:
        if not is_valid:
            raise DataError(f"{where}: {name} is {shown(value)}, expected {expected}.")
