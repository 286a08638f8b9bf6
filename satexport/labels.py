"""Labels: the names behind a model's outputs, and tables that lead to them.

The 527 AudioSet names are those of the published heads, in their order (AudioSet ontology,
CC BY 4.0). Standard library only: a device reads labels too.
"""

from __future__ import annotations

import csv
from functools import lru_cache
from importlib.resources import files
from pathlib import Path

from satexport.errors import DataError


def _shipped_rows(name: str) -> list[dict[str, str]]:
    text = (files("satexport") / "data" / name).read_text(encoding="utf-8")
    return list(csv.DictReader(text.splitlines()))


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

    `path` is a text file with one label per line, or a csv with a column `display_name`.
    Raises `DataError` where it cannot be read, is empty or names a label twice.
    """
    path = Path(path)
    try:
        lines = path.read_text(encoding="utf-8-sig").splitlines()
    except FileNotFoundError:
        raise DataError(
            f"{path}: no such file; expected a labels file, one label per line.") from None
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(
            f"{path}: cannot be read as text ({error}); expected UTF-8, one label per line."
        ) from None
    try:
        columns = next(csv.reader(lines[:1]), [])
        if "display_name" in columns:
            found = [row["display_name"] or "" for row in csv.DictReader(lines)]
        else:
            found = lines
    except csv.Error as error:
        raise DataError(f"{path}: not a csv ({error}); expected one label per line.") from None
    labels = tuple(label.strip() for label in found if label.strip())
    _check(path, labels)
    return labels


def _check(path: Path, labels: tuple[str, ...]) -> None:
    if not labels:
        raise DataError(f"{path}: no label in it; expected one label per line, "
                        "or a csv with a column display_name.")
    twice = sorted({label for label in labels if labels.count(label) > 1})
    if twice:
        raise DataError(f"{path}: {len(twice)} labels stand there more than once "
                        f"({'; '.join(twice[:3])}); every score needs a name of its own.")
