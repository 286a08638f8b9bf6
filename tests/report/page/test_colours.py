"""What the charts draw can be seen in light and dark, and marks are told apart without their colour."""

from __future__ import annotations

import re
from importlib.resources import files

import pytest

from satexport.report.page.svg import SHAPES

STYLE = (files("satexport.report.page") / "page.css").read_text("utf-8")
DRAWN = "other", "soft", "ink", *(f"c{number}" for number in range(len(SHAPES)))  # bars, lines and marks
TEXT = "ink", "soft", "accent", "bad"


def themes() -> dict[str, dict[str, str]]:
    """The colours of light, dark and paper: name -> six hex digits."""
    light, dark, paper = (dict(re.findall(r"--([\w-]+): #([0-9a-f]{3,6})", block))
                          for block in re.findall(r":root \{(.*?)\}", STYLE, re.DOTALL))
    return {"light": light, "dark": light | dark, "paper": light | paper}


def luminance(colour: str) -> float:
    """Relative luminance as WCAG 2.2 defines it."""
    digits = colour if len(colour) == 6 else "".join(2 * digit for digit in colour)
    parts = [int(digits[place:place + 2], 16) / 255 for place in (0, 2, 4)]
    red, green, blue = (part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4
                        for part in parts)
    return 0.2126 * red + 0.7152 * green + 0.0722 * blue


def contrast(one: str, other: str) -> float:
    low, high = sorted(map(luminance, (one, other)))
    return (high + 0.05) / (low + 0.05)


@pytest.mark.parametrize("theme", ["light", "dark", "paper"])
def test_drawings_have_a_contrast_of_three_and_text_of_four_and_a_half(theme: str) -> None:
    colours = themes()[theme]
    assert {name for name in DRAWN if contrast(colours[name], colours["paper"]) < 3} == set()
    assert {name for name in TEXT if contrast(colours[name], colours["paper"]) < 4.5} == set()
    assert contrast(colours["warn"], colours["warn-paper"]) >= 4.5
    assert contrast(colours["soft"], colours["shade"]) >= 4.5  # what is written in a strip


def test_each_colour_has_a_shape_of_its_own() -> None:
    assert len(set(SHAPES)) == len(SHAPES)
    for number in range(len(SHAPES)):
        assert f".c{number} {{ fill: var(--c{number}); }}" in STYLE
