"""JUnit XML."""

from __future__ import annotations

import re
from pathlib import Path
from xml.etree import ElementTree

import pytest

from satexport.files import write_text
from satexport.report.junit import junit


@pytest.mark.parametrize("character", ["\0", "\x0b", "\ud800", "\ufffe", "\uffff"])
def test_characters_that_xml_forbids_are_escaped_in_junit(tmp_path: Path, character: str) -> None:
    write_text(tmp_path / "junit.xml", junit(character, [(f"a{character}b", "failed", character)]))
    (case,) = ElementTree.parse(tmp_path / "junit.xml").getroot()
    assert re.fullmatch(r"a\\[ux][0-9a-f]+b", str(case.get("name")))
