"""Labels: the names behind a model's outputs, and tables that lead to them.

The 527 AudioSet names are those of the published heads, in their order (AudioSet ontology,
CC BY 4.0). Standard library only: a device reads labels too.
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
from satexport.terminal import COMMANDS, clipped

MAX_LABELS = 20_000  # of a model; the largest taggers know 15,000 species
MAX_LABEL_BYTES = 4_000_000
EXPECTED = "expected a labels file in UTF-8, one label per line, or a csv with a column display_name."


def _shipped_rows(name: str) -> list[dict[str, str]]:
    text = (files("satexport") / "data" / name).read_text(encoding="utf-8")
    return list(csv.DictReader(text.split("\n")))


@lru_cache(maxsize=1)
def audioset_labels() -> tuple[str, ...]:
    """The 527 display names of AudioSet, in the order of a published model's scores."""
    return tuple(row["display_name"] for row in _shipped_rows("audioset_labels.csv"))


def audioset_mids() -> dict[str, str]:
    """AudioSet's machine ids ("/m/09x0r") -> display names ("Speech")."""
    rows = _shipped_rows("audioset_labels.csv")
    return {row["mid"]: row["display_name"] for row in rows}


def esc50_to_audioset() -> dict[str, str]:
    """The 50 categories of ESC-50 -> the one AudioSet name that says most of each.

    The table is ours. AudioSet has no class for three of them: drinking_sipping stands under
    "Liquid", can_opening under "Burst, pop", washing_machine under "Mechanisms".
    """
    rows = _shipped_rows("esc50_to_audioset.csv")
    return {row["category"]: row["display_name"] for row in rows}


def read_labels(path: str | Path) -> tuple[str, ...]:
    """Labels of a model of one's own, in the order of its scores.

    `path` is a text file with one label per line, or a csv with a column `display_name`; where that has a
    column `index`, too, it counts the rows. Raises `DataError` where it cannot be read, is empty, names a
    label twice, or a label has a character that a terminal would obey.
    """
    path = Path(path)
    lines = read_lines(path, EXPECTED, MAX_LABEL_BYTES)
    first = next((line for line in lines if line.strip(', \t"')), "")  # of a csv its header
    if "display_name" in first and any("display_name" in cells for _, cells in read_cells(path, [first])):
        rows = read_rows(path, lines, ("display_name",), ("index",))
        _check_order(path, rows)
        found = [(number, row["display_name"]) for number, row in rows]
    else:
        found = [(number, line.strip()) for number, line in enumerate(lines, start=1) if line.strip()]
    _check(path, found)
    return tuple(label for _, label in found)


def _check_order(path: Path, rows: Sequence[tuple[int, dict[str, str]]]) -> None:
    """A column `index` counts the rows from 0 or 1: in another order every score would have a wrong name."""
    found = [row.get("index") for _, row in rows]
    if found[0] is None or any(
            found == [str(start + number) for number in range(len(rows))] for start in (0, 1)):
        return
    raise DataError(f"{path}: its column index does not count its rows; expected the labels in the order of "
                    "the scores. Sort the rows, or delete the column.")


def _check(path: Path, labels: Sequence[tuple[int, str]]) -> None:
    """Labels with the numbers of their lines."""
    if not labels:
        raise DataError(f"{path}: no label in it; {EXPECTED}")
    if len(labels) > MAX_LABELS:
        raise DataError(f"{path}: has {len(labels)} labels; expected at most {MAX_LABELS}.")
    for number, label in labels:
        if not label or COMMANDS.search(label):
            raise DataError(f"{path}, line {number}: the label is {label[:80]!r}; expected a name of "
                            "printable characters, one per line. Delete what is shown with a backslash.")
    twice = sorted(label for label, count in Counter(label for _, label in labels).items() if count > 1)
    if twice:
        raise DataError(f"{path}: {len(twice)} labels stand there more than once "
                        f"({'; '.join(map(clipped, twice[:3]))}); every score needs a name of its own.")
