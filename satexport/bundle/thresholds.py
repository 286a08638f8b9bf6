"""The thresholds file: from which score on a class counts as heard. `satexport thresholds` writes it, and
`--thresholds` of other commands reads it; people may edit it.

    schema = 1
    labels_sha256 = "..."       # of the bundle's labels: the file is for models with these labels
    on = 0.5                    # for labels that are not listed; `off` may be given as well

    [origin]                    # how the thresholds were found
    data = "ESC-50"

    [threshold."Dog"]
    on = 0.42                   # an event begins at a score from this on
    off = 0.3                   # and ends below this; without it, below `on`
    f1 = 0.91                   # of `on`, on the clips that it was found on, as the next three
    precision = 0.95
    recall = 0.87
    clips = 16                  # that have the label; `segments` of 1 s if the set has strong labels

Imports only numpy; Python 3.10 needs tomli.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from satexport import facts
from satexport.bundle.folder import labels_sha256
from satexport.errors import DataError
from satexport.files import write_text
from satexport.terminal import printable, shown

SCHEMA = 1
DEFAULT = 0.5          # the usual threshold of a sigmoid
MAX_BYTES = 4_000_000  # 20,000 labels
EXPECTED = "a thresholds file; `satexport thresholds BUNDLE --data SET -o FILE` writes one"


@dataclass(frozen=True, kw_only=True)
class OperatingPoint:
    """The thresholds of a label, and what they gave on the clips that they were found on; None: not known."""

    on: float                       # a score from this on begins an event
    off: float | None = None        # a score below this ends it; None: the same as `on`
    f1: float | None = None
    precision: float | None = None
    recall: float | None = None
    clips: int | None = None        # that have the label
    segments: int | None = None     # instead of clips: of 1 s, in which the label is heard


@dataclass(frozen=True, kw_only=True)
class Thresholds:
    """The content of a thresholds file; its keys are the fields."""

    labels_sha256: str              # of the labels of the bundle
    on: float = DEFAULT             # for labels without an operating point
    off: float | None = None        # likewise; None: the same as `on`
    origin: Mapping[str, Any] = field(default_factory=dict)
    threshold: Mapping[str, OperatingPoint] = field(default_factory=dict)
    schema: int = SCHEMA


def threshold_arrays(points: Sequence[OperatingPoint]) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """The thresholds `on` and `off` of each point, [points] each, float32 as scores are."""
    return (np.array([point.on for point in points], np.float32),
            np.array([point.on if point.off is None else point.off for point in points], np.float32))


def write_thresholds(path: Path, thresholds: Thresholds, remarks: Sequence[str] = ()) -> None:
    """Write a thresholds file atomically, with `remarks` as comments at its end. Raises `RunError` if it
    cannot be written."""
    comments = "".join(f"# {printable(remark)}\n" for remark in remarks)
    write_text(path, "\n".join(filter(None, (_text(thresholds), comments))))


def _text(thresholds: Thresholds) -> str:
    """The content of a thresholds file, without remarks."""
    head = {key: getattr(thresholds, key) for key in ("schema", "labels_sha256", "on", "off")}
    tables = [("", head), ("origin", thresholds.origin)] + [
        (f"threshold.{facts.toml_text(label)}", vars(point)) for label, point in thresholds.threshold.items()]
    return "\n".join(_table_text(name, content) for name, content in tables if content)


def _table_text(name: str, content: Mapping[str, Any]) -> str:
    """A table of the TOML; keys that are None are left out."""
    lines = [f"[{name}]"] if name else []
    lines += [f"{key} = {facts.toml_text(value)}" for key, value in content.items() if value is not None]
    return "".join(f"{line}\n" for line in lines)


def read_thresholds(path: Path, labels: Sequence[str]) -> Thresholds:
    """Read a thresholds file for a model with these labels.

    Raises `UsageError` if there is no such file, `DataError` if it is damaged, for other labels, or has an
    unknown key or an invalid value.
    """
    content = facts.read_toml(path, EXPECTED, MAX_BYTES)
    if content.get("schema") != SCHEMA:
        raise DataError(f"{path}: schema is {shown(content.get('schema'))}, this version of satexport reads "
                        f"schema {SCHEMA} of thresholds files. Expected {EXPECTED}.")
    tables = {name: content.get(name, {}) for name in ("origin", "threshold")}
    for name, table in tables.items():
        if not isinstance(table, dict):
            raise DataError(f"{path}: {name} is {shown(table)}, expected a table [{name}].")
    head = facts.check_fields(Thresholds, {key: value for key, value in content.items() if key not in tables},
                              path, tables)
    if head["labels_sha256"] != labels_sha256(labels):
        raise DataError(f"{path} is for other labels than the model's {len(labels)} (their SHA-256 is "
                        f"{shown(head['labels_sha256'][:12])}..., expected {labels_sha256(labels)[:12]}...). "
                        "Find thresholds for this bundle with `satexport thresholds`.")
    points = {label: _read_point(path, label, table, labels) for label, table in tables["threshold"].items()}
    found = Thresholds(**head, origin=tables["origin"], threshold=points)
    facts.check_values(_conditions("", found.on, found.off), path)
    return found


def _read_point(path: Path, label: str, table: Any, labels: Sequence[str]) -> OperatingPoint:
    """The checked thresholds of a label."""
    name = f"threshold.{facts.toml_text(label)}"
    if label not in labels:
        near = difflib.get_close_matches(label, labels, n=3)
        raise DataError(f"{path}: the model has no label {shown(label)}"
                        f"{'; similar ones are ' + ', '.join(map(shown, near)) if near else ''}. "
                        f"Correct or delete [{name}].")
    if not isinstance(table, dict):
        raise DataError(f"{path}: {name} is {shown(table)}, expected a table [{name}].")
    point = OperatingPoint(**facts.check_fields(OperatingPoint, table, path, table=name))
    facts.check_values(_conditions(f"{name}: ", point.on, point.off), path)
    return point


def _conditions(where: str, on: float, off: float | None) -> Iterator[facts.Condition]:
    yield f"{where}on", on, 0 < on <= 1, "a score, more than 0, at most 1"
    yield f"{where}off", off, off is None or 0 <= off <= on, f"a score, at most {on}, the threshold on"
