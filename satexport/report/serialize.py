"""Write reports as JSON and read them. Imports only numpy."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import MISSING, fields, is_dataclass
from pathlib import Path
from types import NoneType, UnionType
from typing import Any, Union, cast, get_args, get_origin, get_type_hints

from satexport.errors import DataError
from satexport.files import read_at_most
from satexport.report.figures import definitions, values
from satexport.report.records import KINDS, Report, kind_of
from satexport.terminal import shown

SCHEMA = 7
MAX_BYTES = 50_000_000   # of a report; the curve of a day of 1 s chunks takes 2 MB
AGAIN = {  # kind of report -> the command that makes it again
    "export": "satexport onnx", "parity": "satexport parity BUNDLE", "measure": "satexport measure BUNDLE",
    "sensitivity": "satexport bundle --target NAME --sensitivity", "build": "satexport trt --build BUNDLE",
    "matrix": "satexport matrix MATRIX.toml", "paper": "satexport paper TABLE",
    "scores": "satexport paper figure2 BUNDLE"}
COMPUTED = ("verdict", "status", "kept", "gates", "warning", "pytorch_map", "bundle_map", "pytorch_top1",
            "bundle_top1")  # properties of records that are also in their JSON


def to_json(report: Report) -> dict[str, Any]:
    """Return a report as JSON: its kind and schema, the fields of its record, its figures and definitions."""
    kind = kind_of(report)
    return {"kind": kind, "schema": SCHEMA, **_encode(report), "definitions": definitions(kind)}


def from_json(content: Any, path: Path) -> Report:
    """Return the report in JSON content. Raises `DataError`, which names `path`, if the content is not a
    report, has another schema or is damaged."""
    kind = content.get("kind") if isinstance(content, Mapping) else None
    if not isinstance(kind, str) or kind not in KINDS or "schema" not in content:
        raise DataError(f"{path}: is not a report of satexport: its `kind` is {shown(kind)}; expected one of "
                        f"{', '.join(KINDS)}. For all reports of a bundle, pass its folder.")
    schema = content["schema"]
    if not isinstance(schema, int) or schema < SCHEMA:
        raise DataError(f"{path}: is a report of schema {shown(schema)}; this satexport reads schema "
                        f"{SCHEMA}. Make it again: `{AGAIN[kind]}`.")
    if schema > SCHEMA:
        raise DataError(f"{path}: is a report of schema {schema}, made by a newer satexport; this one reads "
                        f"schema {SCHEMA}. Update satexport, or make the report again: `{AGAIN[kind]}`.")
    return cast(Report, _decode_record(KINDS[kind], content, f"{path}: "))


def read_schema(path: Path, kind: str) -> int:
    """Return the schema of a report. Raises `DataError` if the file is not a report of this kind."""
    content = _read_json(path)
    schema = content.get("schema") if isinstance(content, Mapping) and content.get("kind") == kind else None
    if not isinstance(schema, int):
        raise DataError(f"{path}: is not a report of `{AGAIN[kind]}`. Move it away, or choose another "
                        "--output.")
    return schema


def read_report(path: Path) -> Report:
    """Return the report in a file. Raises `DataError` if there is no file, or none that `from_json` reads."""
    return from_json(_read_json(path), path)


def read_file(path: Path) -> list[Report]:
    """Return the reports in a file: one, or those that `satexport report --json` collected. Raises what
    `read_report` does."""
    content = _read_json(path)
    several = content.get("reports") if isinstance(content, Mapping) else None
    if several == []:
        raise DataError(f"{path}: holds no reports.")
    return [from_json(part, path) for part in (several if isinstance(several, list) else [content])]


def read_reports(folder: Path) -> tuple[list[Report], list[DataError]]:
    """Return the reports in a folder, in the order in which a bundle gets them, and the errors of those that
    cannot be read. Skips JSON files that are not reports."""
    reports: list[Report] = []
    errors: list[DataError] = []
    for path in sorted(folder.glob("*.json")):
        try:
            content = _read_json(path)
            if isinstance(content, Mapping) and "kind" in content:
                reports.append(from_json(content, path))
        except DataError as error:
            errors.append(error)
    return sorted(reports, key=lambda report: list(KINDS).index(kind_of(report))), errors


def _read_json(path: Path) -> Any:
    try:
        return json.loads(read_at_most(path, MAX_BYTES).decode("utf-8"))
    except FileNotFoundError:
        raise DataError(f"{path}: no such file; expected a report, such as BUNDLE/reports/parity.json, or a "
                        "bundle.") from None
    except OSError as error:
        raise DataError(f"{path}: cannot be read ({error.strerror or error}); expected a report.") from None
    except (ValueError, RecursionError):
        raise DataError(f"{path}: is not JSON; expected a report, such as BUNDLE/reports/parity.json."
                        ) from None


def _encode(value: Any) -> Any:
    """Return a value as JSON. A record becomes its computed properties, its fields, except unset ones whose
    default is None, and those of its figures that are not fields."""
    if is_dataclass(value):
        content = {f.name: _encode(getattr(value, f.name)) for f in fields(value)
                   if f.default is not None or getattr(value, f.name) is not None}
        names = {f.name for f in fields(value) if f.default is not None}  # those that are always there
        figures = {key: figure for key, figure in values(value).items() if key not in {*names, *COMPUTED}}
        computed = {name: _encode(getattr(value, name)) for name in COMPUTED
                    if isinstance(getattr(type(value), name, None), property)}
        return {**computed, **content, **({"figures": figures} if figures else {})}
    if isinstance(value, Mapping):
        return {key: _encode(entry) for key, entry in value.items()}
    if isinstance(value, list | tuple):
        return [_encode(entry) for entry in value]
    return value


def _decode_record(record: type, content: Any, where: str) -> Any:
    """Return a dataclass from its JSON. Ignores keys that are not fields: they were computed from fields."""
    if not isinstance(content, Mapping):
        raise DataError(f"{where}is {shown(content)}, expected a table: the report is damaged.")
    hints, given = get_type_hints(record), {}
    for f in fields(record):
        if f.name in content:
            given[f.name] = _decode(hints[f.name], content[f.name], f"{where}{f.name} ")
        elif f.default is MISSING and f.default_factory is MISSING:
            raise DataError(f"{where}lacks {f.name!r}: the report is damaged.")
    return record(**given)


def _decode(hint: Any, value: Any, where: str) -> Any:
    """Return a value of the type `hint` from JSON, in which null stands for NaN."""
    origin, parts = get_origin(hint), get_args(hint)
    if origin in (UnionType, Union):
        known = next(part for part in parts if part is not NoneType)
        return None if value is None else _decode(known, value, where)
    if is_dataclass(hint):
        return _decode_record(cast(type, hint), value, where)
    if origin is tuple and isinstance(value, list):
        kinds = parts[:1] * len(value) if parts[1:] == (...,) else parts
        if len(kinds) == len(value):
            return tuple(_decode(kind, entry, where) for kind, entry in zip(kinds, value, strict=True))
    elif origin is not None and issubclass(origin, Mapping) and isinstance(value, Mapping):
        return {key: _decode(parts[1], entry, f"{where}{shown(key)} ") for key, entry in value.items()}
    elif hint is Any or _is_plain(value, hint):
        return float("nan") if hint is float and value is None else value
    raise DataError(f"{where}is {shown(value)}, expected another type: the report is damaged.")


def _is_plain(value: object, hint: Any) -> bool:
    """Return whether a JSON value has the type `hint`: str, int, float or bool. An int also counts as a
    float, and so does null."""
    if hint is float:
        return value is None or (isinstance(value, int | float) and not isinstance(value, bool))
    return type(value) is hint
