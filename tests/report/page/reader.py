"""What a page says: its text and its tables, read as a browser without scripts reads them."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from html.parser import HTMLParser
from pathlib import Path

from satexport.report.page.write import write_page
from satexport.report.records import Report
from satexport.report.sources import Source, read_sources

VOID = {"meta", "br", "link", "circle", "path", "rect", "line"}


@dataclass
class Element:
    """An element with what is in it."""

    tag: str
    attributes: dict[str, str]
    children: list[Element | str] = field(default_factory=list)

    @property
    def text(self) -> str:
        """The text in it, without scripts and styles, with single spaces."""
        parts = (child if isinstance(child, str) else "" if child.tag in ("script", "style") else child.text
                 for child in self.children)
        return re.sub(r"\s+", " ", "".join(parts)).strip()

    def all(self, tag: str, **attributes: str) -> list[Element]:
        """The elements of this tag in it, with these attributes, in the order of the page."""
        found = []
        for child in self.children:
            if isinstance(child, Element):
                if child.tag == tag and attributes.items() <= child.attributes.items():
                    found.append(child)
                found += child.all(tag, **attributes)
        return found

    def table(self, label: str) -> list[list[str]]:
        """The cells of the only table whose label for screen readers begins like this."""
        (grid,) = [grid for grid in self.all("div", role="region")
                   if grid.attributes["aria-label"].startswith(label)]
        return [[cell.text for cell in row.children if isinstance(cell, Element)]
                for row in grid.all("tr")]


class _Reader(HTMLParser):
    def __init__(self) -> None:
        super().__init__(convert_charrefs=True)
        self.root = Element("", {})
        self.open = [self.root]

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        element = Element(tag, {name: value or "" for name, value in attrs})
        self.open[-1].children.append(element)
        if tag not in VOID:
            self.open.append(element)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.open[-1].children.append(Element(tag, {name: value or "" for name, value in attrs}))

    def handle_endtag(self, tag: str) -> None:
        if tag not in VOID:
            assert self.open[-1].tag == tag, f"</{tag}> closes <{self.open[-1].tag}>"
            self.open.pop()

    def handle_data(self, data: str) -> None:
        self.open[-1].children.append(data)


def read_page(html: str) -> Element:
    """Return the page. Fails if its elements are not closed in order."""
    reader = _Reader()
    reader.feed(html)
    reader.close()
    assert reader.open == [reader.root]
    return reader.root


def page_of(paths: Sequence[Path]) -> Element:
    """Return the page of the reports at these paths."""
    return read_page(write_page(read_sources(paths)[0]))


def page_of_report(report: Report) -> Element:
    """Return the page of a report without its bundle."""
    return read_page(write_page([Source(path=Path("report.json"), bundle=None, reports=(report,))]))


def section_of(page: Element, name: str) -> Element:
    """Return the section of the bundle with this name."""
    (section,) = [section for section in page.all("section") if section.all("h2")
                  and name in section.all("h2")[0].text.split()]
    return section
