"""JUnit XML, for a CI."""

from __future__ import annotations

import re
from collections.abc import Sequence
from xml.etree import ElementTree

from satexport.terminal import printable


def junit(name: str, cases: Sequence[tuple[str, str, str]]) -> str:
    """JUnit XML of (case, "passed" | "failed" | "skipped", message)."""
    count = {status: str(sum(c[1] == status for c in cases)) for status in ("failed", "skipped")}
    name = _xml_text(name)
    suite = ElementTree.Element("testsuite", name=name, tests=str(len(cases)),
                                failures=count["failed"], skipped=count["skipped"], errors="0")
    for case, status, message in ((_xml_text(c[0]), c[1], _xml_text(c[2])) for c in cases):
        element = ElementTree.SubElement(suite, "testcase", classname=name, name=case)
        if status != "passed":
            kind = "failure" if status == "failed" else "skipped"
            ElementTree.SubElement(element, kind, message=message)
    ElementTree.indent(suite)
    text: bytes = ElementTree.tostring(suite, encoding="utf-8", xml_declaration=True)
    return text.decode() + "\n"


def _xml_text(text: str) -> str:
    r"""The text, `printable`, and what else XML 1.0 has no place for (its production 2, Char) as its escape:
    halves of surrogate pairs, which names of files may hold, U+FFFE and U+FFFF."""
    return re.sub("[\ud800-\udfff\ufffe\uffff]", lambda found: f"\\u{ord(found[0]):x}", printable(text))
