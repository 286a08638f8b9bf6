"""Facts: TOML files, shipped with satexport or a user's own, read strictly into dataclasses."""

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

MAX_BYTES = 200_000    # of a TOML; checksums of 2000 clips fit
MAX_LINE = 1000        # characters; what reads TOMLs takes minutes over a key of many dots
Condition = tuple[str, object, bool, str]  # key, value, whether it can be meant, what can


def shipped_folder(name: str) -> Path:
    """Where the shipped TOMLs of a kind lie: beside the package in a checkout, inside it in a wheel."""
    inside = PACKAGE_FOLDER / name
    return inside if inside.is_dir() else PACKAGE_FOLDER.parent / name


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

    if what.endswith(".toml"):
        path = Path(what)
    elif what in names(folder):
        path = folder / f"{what}.toml"
    else:
        raise UsageError(f"no {kind} {what!r}; there are {', '.join(names(folder))}, or pass a FILE.toml.")
    try:
        text = read_at_most(path, MAX_BYTES).decode("utf-8")
        if long := [n for n, line in enumerate(text.split("\n"), start=1) if len(line) > MAX_LINE]:
            raise DataError(f"{path} is no readable TOML: line {long[0]} has more than {MAX_LINE} "
                            "characters. Write a list over several lines, and a table such as checksums = "
                            "{...} as a line [checksums] at the end with a line for each entry below it.")
        return tomllib.loads(text), path
    except FileNotFoundError:
        raise UsageError(f"{path}: no such file; expected a TOML of a {kind}, or one of the names "
                         f"{', '.join(names(folder))}.") from None
    except IsADirectoryError:
        raise DataError(f"{path} is no readable TOML: it is a folder.") from None
    except RecursionError:
        raise DataError(f"{path} is no readable TOML: it is nested too deeply.") from None
    except (ValueError, OSError) as error:  # a number of 5000 digits is a ValueError, too
        raise DataError(f"{path} is no readable TOML: {error}.") from None


def check_fields(kind: type[Any], fields: dict[str, Any], where: Path,
                 tables: Iterable[str] = (), table: str = "") -> dict[str, Any]:
    """The fields if they are those of the dataclass, strict about names and types; `tables` are fields
    that are read by themselves, `table` is the one that the fields stand in. JSON, unlike TOML, has a null,
    which an optional key may be.

    Raises `DataError` that names `where` and the key.
    """
    known = {f.name: f for f in dataclasses.fields(kind) if f.name not in tables}
    needed = {n for n, f in known.items()
              if f.default is dataclasses.MISSING and f.default_factory is dataclasses.MISSING}
    if unknown := sorted(set(fields) - set(known)):
        raise DataError(f"{where}: unknown key {shown(unknown[0])}; the keys are {', '.join(known)}.")
    if absent := sorted(needed - set(fields)):
        raise DataError(f"{where}: lacks the key {absent[0]!r}{f' in [{table}]' if table else ''}.")
    hints, result = get_type_hints(kind), {}
    for name, value in fields.items():
        if not _is(value, hints[name]):
            raise DataError(f"{where}: {name} is {shown(value)}, expected {_words(hints[name])}.")
        result[name] = tuple(value) if isinstance(value, list) else value
    return result


def toml_text(value: object) -> str:
    """A text, number or truth value as a TOML has it."""
    return json.dumps(value)


_WORDS = {str: "texts", int: "whole numbers", float: "numbers", bool: "true or false"}  # of a list or table


def _words(hint: Any) -> str:
    """What a type is called in a TOML."""
    origin, parts = get_origin(hint), get_args(hint)
    if origin is UnionType:
        return " or ".join(_words(part) for part in parts if part is not NoneType)
    if origin is tuple:
        return f"a list of {_WORDS[parts[0]]}"
    if origin is dict:
        return f"a table of {_WORDS.get(parts[1], 'values')}"
    return str(hint.__name__)


def _is(value: object, hint: Any) -> bool:
    """Is a value as read from TOML or JSON of the type that a dataclass's annotation names? A list is a
    tuple there, a whole number a float, too; true and false are no numbers."""
    origin, parts = get_origin(hint), get_args(hint)
    if hint is Any:
        return True
    if origin is UnionType:
        return any(_is(value, part) for part in parts)
    if origin is tuple:
        return isinstance(value, list | tuple) and (
            all(_is(entry, parts[0]) for entry in value) if parts[1:] == (...,) else
            len(value) == len(parts) and all(map(_is, value, parts)))
    if origin is dict:
        return isinstance(value, dict) and all(
            _is(key, parts[0]) and _is(entry, parts[1]) for key, entry in value.items())
    if isinstance(value, bool):
        return hint is bool
    return isinstance(value, (int, float) if hint is float else hint)


def check_values(conditions: Iterable[Condition], where: Path) -> None:
    """Raise `DataError` for the first value that cannot be meant."""
    for name, value, fits, expected in conditions:
        if not fits:
            raise DataError(f"{where}: {name} is {shown(value)}, expected {expected}.")
