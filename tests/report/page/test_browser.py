"""The page in Chromium: nothing is fetched, nothing fails, everybody can use it, tables sort."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from satexport.report.page.write import write_page
from satexport.report.sources import read_sources
from tests.report.page.bundles import three_bundles

TABLE = "table.wide"


class Opened:
    """The page, and what the browser said about it."""

    def __init__(self, tab: Any) -> None:
        self.tab = tab
        self.problems: list[str] = []
        self.requests: list[str] = []
        tab.on("console", lambda message: self.problems.append(message.text))
        tab.on("pageerror", lambda error: self.problems.append(str(error)))
        tab.on("request", lambda request: self.requests.append(request.url))


@pytest.fixture(scope="module")
def opened(browser: Any, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Opened]:
    folder = tmp_path_factory.mktemp("page")
    file = folder / "report.html"
    file.write_text(write_page(read_sources(three_bundles(folder))[0]), "utf-8")
    with browser.new_context(viewport={"width": 1280, "height": 900}) as context:
        page = Opened(context.new_page())
        page.tab.goto(file.as_uri())
        yield page


def test_nothing_fails_and_only_the_file_itself_is_loaded(opened: Opened) -> None:
    assert opened.problems == []
    assert [Path(address).name for address in opened.requests] == ["report.html"]


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_axe_finds_nothing_serious(opened: Opened, axe: str, scheme: str) -> None:
    opened.tab.emulate_media(color_scheme=scheme)
    opened.tab.evaluate("document.querySelectorAll('details').forEach((part) => { part.open = true; })")
    if not opened.tab.evaluate("'axe' in window"):
        opened.tab.evaluate(axe)
    only = "" if scheme == "light" else ", runOnly: ['color-contrast']"  # all else is the same
    result = opened.tab.evaluate(f"axe.run(document, {{resultTypes: ['violations']{only}}})")
    found = {rule["id"]: [node["html"] for node in rule["nodes"]] for rule in result["violations"]
             if rule["impact"] in ("serious", "critical")}
    assert found == {}
    opened.tab.evaluate("document.querySelectorAll('details').forEach((part) => { part.open = false; })")


def column(opened: Opened, number: int) -> list[str]:
    return list(opened.tab.locator(f"{TABLE} tbody tr > :nth-child({number})").all_inner_texts())


def test_a_table_sorts_by_keyboard_numbers_as_numbers_and_what_was_not_measured_last(opened: Opened) -> None:
    names = opened.tab.locator(f"{TABLE} thead th").all_inner_texts()
    for name, key, order, values in (
            ("mAP kept", "Enter", "ascending", ["95.0%", "99.0%", "-"]),
            ("mAP kept", "Enter", "descending", ["99.0%", "95.0%", "-"]),
            ("step in a burst, ms", "Space", "ascending", ["2.50", "2.95", "10.00"]),
            ("bundle", "Space", "ascending",
             ["sat-t-2s/cpu-int8", "sat-t-2s/cpu-int8-avx2", "sat-t-2s/onnx"]),
            ("no.", "Enter", "ascending", ["1", "2", "3"])):
        head = opened.tab.locator(f"{TABLE} thead th").nth(names.index(name))
        head.locator("button").focus()
        opened.tab.keyboard.press(key)
        assert head.get_attribute("aria-sort") == order
        assert column(opened, names.index(name) + 1) == values
        assert opened.tab.locator(f"{TABLE} [aria-sort]").count() == 1


def test_it_fits_a_phone_and_its_letters_stay_readable(opened: Opened) -> None:
    opened.tab.set_viewport_size({"width": 360, "height": 740})
    assert opened.tab.evaluate("document.documentElement.scrollWidth") <= 360
    smallest = opened.tab.evaluate("""() => Math.min(...[...document.querySelectorAll('.plot text')]
        .map((text) => text.getBoundingClientRect().height))""")
    assert smallest >= 11
    wrong = opened.tab.evaluate("""() => [...document.querySelectorAll('.scroll')]
        .filter((place) => place.checkVisibility())
        .filter((place) => (place.scrollWidth > place.clientWidth) !== (place.tabIndex === 0)).length""")
    assert wrong == 0  # only what can be scrolled takes the focus
    opened.tab.set_viewport_size({"width": 1280, "height": 900})


def test_on_paper_all_is_open_and_black_on_white(opened: Opened) -> None:
    opened.tab.emulate_media(media="print", color_scheme="dark")
    opened.tab.set_viewport_size({"width": 688, "height": 1000})  # A4 without its margins
    try:
        assert opened.tab.evaluate("document.documentElement.scrollWidth") <= 688
        colours = opened.tab.evaluate("""() => {
            const {color, backgroundColor} = getComputedStyle(document.body);
            return [color, backgroundColor];
        }""")
        assert colours == ["rgb(0, 0, 0)", "rgb(255, 255, 255)"]
        opened.tab.evaluate("dispatchEvent(new Event('beforeprint'))")
        assert opened.tab.locator("details:not([open])").count() == 0
        opened.tab.evaluate("dispatchEvent(new Event('afterprint'))")
        assert opened.tab.locator("details[open]").count() == 0
    finally:
        opened.tab.set_viewport_size({"width": 1280, "height": 900})
        opened.tab.emulate_media(media="screen", color_scheme="light")
