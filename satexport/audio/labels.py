"""Labels: the names of a model's outputs, and tables that map other names to them.

The 527 AudioSet names are in the order of the published models' outputs (AudioSet ontology, CC BY 4.0).
Standard library only, because devices read labels too.
"""

from __future__ import annotations

import csv
from collections import Counter
from collections.abc import Sequence
from functools import lru_cache
from importlib.resources import files
from pathlib import Path

from satexport.audio.tables import read_cells, read_lines, read_rows
from satexport.errors import DataError
from satexport.terminal import CONTROL_CHARACTERS, clipped

MAX_LABELS = 20_000  # of a model; the largest taggers have 15,000 species
MAX_LABEL_BYTES = 4_000_000
EXPECTED = "expected a labels file in UTF-8, one label per line, or a csv with a column display_name."


def _shipped_rows(name: str) -> list[dict[str, str]]:
    text = (files("satexport") / "data" / name).read_text(encoding="utf-8")
    return list(csv.DictReader(text.split("\n")))


@lru_cache(maxsize=1)
def audioset_labels() -> tuple[str, ...]:
    """The 527 display names of AudioSet, in the order of the published models' scores."""
    return tuple(row["display_name"] for row in _shipped_rows("audioset_labels.csv"))


def audioset_mids() -> dict[str, str]:
    """AudioSet's machine ids ("/m/09x0r") -> display names ("Speech")."""
    rows = _shipped_rows("audioset_labels.csv")
    return {row["mid"]: row["display_name"] for row in rows}


def esc50_to_audioset() -> dict[str, str]:
    """The 50 categories of ESC-50 -> the most specific AudioSet name for each.

    We made this table. AudioSet has no class for three of them: drinking_sipping is mapped to "Liquid",
    can_opening to "Burst, pop", washing_machine to "Mechanisms".
    """
    rows = _shipped_rows("esc50_to_audioset.csv")
    return {row["category"]: row["display_name"] for row in rows}


def read_labels(path: str | Path) -> tuple[str, ...]:
    """Read the labels of a user's model, in the order of its scores.

    `path` is a text file with one label per line, or a csv with a column `display_name`; if the csv also has
    a column `index`, that must number the rows from 0 or 1. Raises `DataError` if the file cannot be read or
    is empty, or if a label is duplicated or contains a control character.
    """
    path = Path(path)
    lines = read_lines(path, EXPECTED, MAX_LABEL_BYTES)
    first = next((line for line in lines if line.strip(', \t"')), "")  # the header, if it is a csv
    if "display_name" in first and any("display_name" in cells for _, cells in read_cells(path, [first])):
        rows = read_rows(path, lines, ("display_name",), ("index",))
        _check_order(path, rows)
        labels = [(number, row["display_name"]) for number, row in rows]
    else:
        labels = [(number, line.strip()) for number, line in enumerate(lines, start=1) if line.strip()]
    _check_labels(path, labels)
    return tuple(label for _, label in labels)


def _check_order(path: Path, rows: Sequence[tuple[int, dict[str, str]]]) -> None:
    """Raise `DataError` unless the column `index`, if any, numbers the rows from 0 or 1: in another order,
    scores would get wrong names."""
    indices = [row.get("index") for _, row in rows]
    if indices[0] is None or any(
            indices == [str(start + number) for number in range(len(rows))] for start in (0, 1)):
        return
    raise DataError(f"{path}: its column index does not number the rows from 0 or 1; expected the labels in "
                    "the order of the scores. Sort the rows, or delete the column.")


def _check_labels(path: Path, labels: Sequence[tuple[int, str]]) -> None:
    """Raise `DataError` for invalid labels; each comes with its line number."""
    if not labels:
        raise DataError(f"{path}: contains no labels; {EXPECTED}")
    if len(labels) > MAX_LABELS:
        raise DataError(f"{path}: has {len(labels)} labels; expected at most {MAX_LABELS}.")
    for number, label in labels:
        if not label or CONTROL_CHARACTERS.search(label):
            raise DataError(f"{path}, line {number}: the label is {label[:80]!r}; expected one name per "
                            "line, of printable characters. Delete the characters shown with a backslash.")
    counts = Counter(label for _, label in labels)
    if duplicates := sorted(label for label, count in counts.items() if count > 1):
        raise DataError(f"{path}: {len(duplicates)} labels occur more than once "
                        f"({'; '.join(map(clipped, duplicates[:3]))}); every score needs its own name.")
