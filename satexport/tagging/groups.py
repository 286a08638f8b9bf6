"""Groups of labels that are reported as one, from a TOML file:

    [group."Alarm"]
    labels = ["Siren", "Smoke detector, smoke alarm"]
    on = 0.4      # for each of these labels; without it, the threshold of each label
    off = 0.3     # the same as `on` if it is left out

Imports only numpy; Python 3.10 needs tomli.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from satexport import facts
from satexport.bundle.thresholds import OperatingPoint
from satexport.errors import DataError
from satexport.tagging.events import Group
from satexport.terminal import CONTROL_CHARACTERS, shown

EXPECTED = 'a TOML of groups: [group."NAME"] with labels = ["LABEL", ...] for each'


@dataclass(frozen=True, kw_only=True)
class GroupTable:
    """The table of a group; its keys are the fields."""

    labels: tuple[str, ...]         # of the model
    on: float | None = None         # as in `OperatingPoint`; None: the threshold of each label
    off: float | None = None


def read_groups(path: Path, labels: Sequence[str]) -> dict[str, Group]:
    """Read the groups of a file, by name, for a model with these labels.

    Raises `UsageError` if there is no such file, `DataError` if it is damaged or has no group, an unknown
    key or label, or an invalid value.
    """
    content = facts.read_toml(path, EXPECTED)
    tables = content.get("group")
    if set(content) != {"group"} or not isinstance(tables, dict) or not tables:
        raise DataError(f"{path}: its keys are {shown(list(content))}; expected {EXPECTED}.")
    return {name: _read_group(path, name, table, labels) for name, table in tables.items()}


def _read_group(path: Path, name: str, table: Any, labels: Sequence[str]) -> Group:
    where = f"group.{facts.toml_text(name)}"
    if not isinstance(table, dict):
        raise DataError(f"{path}: {where} is {shown(table)}; expected {EXPECTED}.")
    found = GroupTable(**facts.check_fields(GroupTable, table, path, table=where))
    facts.check_values(_conditions(where, name, found), path)
    for label in found.labels:
        if label not in labels:
            near = difflib.get_close_matches(label, labels, n=3)
            near += [known for known in labels if label.lower() in known.lower() and known not in near]
            hint = f"; similar ones are {', '.join(map(shown, near[:4]))}" if near else ""
            raise DataError(f"{path}: {where} has the label {shown(label)}, which the model does not "
                            f"have{hint}. Correct the label; the model's are in its labels.txt.")
    point = None if found.on is None else OperatingPoint(on=found.on, off=found.off)
    return Group(labels=found.labels, threshold=point)


def _conditions(where: str, name: str, found: GroupTable) -> Iterator[facts.Condition]:
    yield "the name of a group", name, bool(name) and not CONTROL_CHARACTERS.search(name), "printable text"
    yield (f"{where}: labels", list(found.labels), len(set(found.labels)) == len(found.labels) > 0,
           "different labels, at least one")
    yield f"{where}: on", found.on, found.on is None or 0 < found.on <= 1, "a score, more than 0, at most 1"
    yield (f"{where}: off", found.off, found.off is None or (found.on is not None
                                                             and 0 <= found.off <= found.on),
           "a score, at most that of on, which it needs")
