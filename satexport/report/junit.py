"""JUnit XML, for CI systems."""

from __future__ import annotations

import re
from collections.abc import Sequence
from xml.etree import ElementTree

from satexport.terminal import printable


def junit(name: str, cases: Sequence[tuple[str, str, str]]) -> str:
    """Return JUnit XML of the suite `name`; each case is (name, "passed" | "failed" | "skipped", message)."""
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
    r"""Return the text made `printable`, with the other characters that XML 1.0 forbids (production 2, Char)
    as escapes: lone surrogates, which file names may contain, U+FFFE and U+FFFF."""
    return re.sub("[\ud800-\udfff\ufffe\uffff]", lambda match: f"\\u{ord(match[0]):x}", printable(text))
