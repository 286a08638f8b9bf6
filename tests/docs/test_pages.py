"""The pages: short where they must be, generated parts up to date, links that lead somewhere."""

from __future__ import annotations

import re
import runpy
from itertools import pairwise
from pathlib import Path

import pytest

from tests import ROOT
from tests.docs.commands import FENCE, PAGES

LINK = re.compile(r"\]\((?P<path>[^)#\s]*)(?:#(?P<anchor>[^)\s]+))?\)")
make_docs = runpy.run_path(str(ROOT / "tools" / "make_docs.py"))
EVERY_PAGE = {**PAGES, "CHANGELOG.md": ROOT / "CHANGELOG.md",
              "satexport/data/ATTRIBUTION.md": ROOT / "satexport" / "data" / "ATTRIBUTION.md"}


def anchors(path: Path) -> list[str]:
    """The anchors of a page's headings, as GitHub makes them."""
    titles = re.findall(r"(?m)^#+ +(.+?) *$", FENCE.sub("", path.read_text("utf-8")))
    return [re.sub(r"[^\w\- ]", "", title.lower()).replace(" ", "-") for title in titles]


def links(path: Path) -> list[tuple[Path, str]]:
    """The file and the anchor of each link into the repository."""
    matches = LINK.finditer(FENCE.sub("", path.read_text("utf-8")))
    return [((path.parent / match["path"]).resolve() if match["path"] else path, match["anchor"] or "")
            for match in matches if "://" not in match["path"]]


@pytest.mark.parametrize("page", EVERY_PAGE)
def test_every_link_of_a_page_leads_to_a_file_and_a_heading(page: str) -> None:
    broken = [(target.relative_to(ROOT).as_posix(), anchor) for target, anchor in links(EVERY_PAGE[page])
              if not target.exists() or (anchor and anchor not in anchors(target))]
    assert broken == []


def test_every_page_is_on_the_map() -> None:
    mapped = {target for target, _ in links(ROOT / "docs" / "index.md")}
    assert {path for path in (ROOT / "docs").glob("*.md") if path.name != "index.md"} <= mapped


def test_the_readme_is_read_in_a_few_minutes() -> None:
    assert len((ROOT / "README.md").read_text("utf-8").splitlines()) < 200


@pytest.mark.parametrize("path", sorted((ROOT / "docs").glob("*.md")), ids=lambda path: path.name)
def test_the_generated_parts_of_a_page_are_up_to_date(path: Path) -> None:
    page = path.read_text("utf-8")
    assert make_docs["render"](page) == page, f"{path.name} is out of date: run `make docs`"


def test_every_generated_part_stands_on_one_page() -> None:
    pages = "".join(path.read_text("utf-8") for path in (ROOT / "docs").glob("*.md"))
    assert sorted(re.findall(r"<!-- make docs: ([\w -]+) -->", pages)) == sorted(make_docs["BLOCKS"])


@pytest.mark.parametrize("page", PAGES)
def test_a_table_has_as_many_cells_in_every_line(page: str) -> None:
    lines = FENCE.sub("", PAGES[page].read_text("utf-8")).split("\n")
    tables = [line for line in lines if line.startswith("|")]
    for above, line in pairwise(lines):
        if above in tables and line in tables:
            assert len(re.findall(r"(?<!\\)\|", above)) == len(re.findall(r"(?<!\\)\|", line)), line
