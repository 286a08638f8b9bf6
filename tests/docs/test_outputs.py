"""The tables of figures that pages show as the output of a command."""

from __future__ import annotations

import re
from collections.abc import Iterator

import pytest

from satexport.models.sat.folds import FOLDS
from satexport.report.figures import KIND_FIGURES
from tests.docs.commands import FENCE, PAGES

FIGURES = {figure.head for kinds in KIND_FIGURES.values() for figures in kinds for figure in figures}
STAGES = {"as published", "keys and values cached", *FOLDS, "onnxsim"}
GATE = r"((int8|fp16): )?(largest score difference, .+|mAP kept)"
LAYER = r"all|patch|head|\d\d\.\w+"


def labels(output: str) -> Iterator[str]:
    """The words in the first column of each table. A label that goes on in the next line is one."""
    label = ""
    for line in output.splitlines():
        first, *others = (cell.strip() for cell in line.strip("│").split("│"))
        if line.startswith("│") and label and not any(others):
            label = f"{label} {first}"
            continue
        yield label
        label = first if line.startswith("│") else ""
    yield label


SHOWN = [(page, label) for page, path in PAGES.items() for fence in FENCE.finditer(path.read_text("utf-8"))
         if fence["content"].startswith("$ satexport")
         for label in dict.fromkeys(labels(fence["content"])) if re.search("[A-Za-z]", label)]


@pytest.mark.parametrize(("page", "label"), SHOWN)
def test_a_row_of_a_shown_table_is_one_that_a_command_prints(page: str, label: str) -> None:
    assert label in FIGURES | STAGES or re.fullmatch(f"{GATE}|{LAYER}", label)


def test_labels_are_read_over_several_lines_and_without_the_rest() -> None:
    output = "┃ gate ┃  ┃\n│ mAP  │ 1 │\n│ kept │   │\n│ p99  │ 2 │\nBundle: x"
    assert [label for label in labels(output) if label] == ["mAP kept", "p99"]
