"""The page works by keyboard and by screen reader, and without the network after loading."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest

from tests.backends.web.page import OpenPage, open_page

DOG = "4-207124-A-0.ogg"


@pytest.fixture(scope="module")
def page(browser: Any, web_bundle: str) -> Iterator[OpenPage]:
    with open_page(browser, web_bundle, accept_downloads=True) as opened:
        opened.tab.on("filechooser", lambda chooser: None)  # from now on, no dialog opens
        yield opened


def focused(page: OpenPage) -> str:
    return str(page.tab.evaluate("document.activeElement.id || document.activeElement.tagName"))


def test_everything_is_reached_by_keyboard(page: OpenPage, shared: Path) -> None:
    page.drop(DOG, (shared / "esc10" / "audio" / DOG).read_bytes())
    page.tab.evaluate("document.activeElement.blur()")
    reached: list[str] = []
    while "prove" not in reached and len(reached) < 30:
        page.tab.keyboard.press("Tab")
        reached.append(focused(page))
    order = ["listen", "open", "threshold", "csv", "json", "clear", "timeline"]
    assert [name for name in reached if name in order] == order
    assert "prove" in reached


def test_a_file_is_chosen_the_threshold_moved_and_the_timeline_read_by_keyboard(
        page: OpenPage, shared: Path) -> None:
    page.tab.focus("#open")
    with page.tab.expect_file_chooser() as chooser:
        page.tab.keyboard.press("Enter")
    chooser.value.set_files(shared / "esc10" / "audio" / DOG)
    page.tab.wait_for_function("document.getElementById('now-title').textContent.includes('4-207124')")
    page.wait("ready")
    page.tab.focus("#threshold")
    page.tab.keyboard.press("ArrowRight")
    assert page.tab.inner_text("#threshold-text") == "0.35"
    page.tab.focus("#timeline")
    page.tab.keyboard.press("Home")
    words = page.tab.get_attribute("#timeline", "aria-valuetext")
    assert words.startswith(f"{DOG}, 0:00 to 0:02: ")
    assert "Dog 0." in words
    page.tab.keyboard.press("ArrowRight")
    assert "0:02 to 0:04" in page.tab.get_attribute("#timeline", "aria-valuetext")
    assert page.tab.inner_text("#readout") == page.tab.get_attribute("#timeline", "aria-valuetext")


def test_one_polite_live_region_says_what_is_newly_heard(page: OpenPage, shared: Path) -> None:
    assert page.tab.locator("[aria-live], [role=alert], [role=log]").count() == 1
    assert page.tab.get_attribute("#live", "aria-live") == "polite"
    page.tab.evaluate("""() => {
        window.said = [];
        new MutationObserver((changes) => changes.forEach(({addedNodes}) =>
            addedNodes.forEach(({textContent}) => window.said.push(textContent))))
            .observe(document.getElementById('live'), {childList: true});
    }""")
    page.drop(DOG, (shared / "esc10" / "audio" / DOG).read_bytes())
    said = page.tab.evaluate("window.said")
    assert sum(text.startswith("Heard: ") and "Dog" in text for text in said) == 1
    assert said[0] == f"Reading {DOG}"
    assert len(said) <= 5  # percentages are not said


def test_every_control_has_a_name(page: OpenPage) -> None:
    nameless = page.tab.evaluate("""() => [
        ...document.querySelectorAll('button, input, select, a, [tabindex="0"]')]
        .filter((element) => !element.getAttribute('aria-label') && !element.labels?.length)
        .filter((element) => !element.textContent.trim())
        .map((element) => element.outerHTML)""")
    assert nameless == []


def test_the_proof_runs_on_this_device(page: OpenPage) -> None:
    page.tab.click("#prove")
    page.tab.wait_for_selector("#prove:not([disabled])", timeout=60_000)
    result = page.tab.inner_text("#proof")
    assert result.startswith("Passed on this device: largest score difference")
    assert "ms (median)" in result


def test_nothing_comes_from_elsewhere_and_nothing_after_loading(browser: Any, web_bundle: str,
                                                                shared: Path) -> None:
    with open_page(browser, web_bundle, accept_downloads=True) as page:
        host = urlsplit(web_bundle).netloc
        assert {urlsplit(address).netloc for address in page.requests if address.startswith("http")} == {host}
        page.tab.context.set_offline(True)
        before = len(page.requests)
        page.drop(DOG, (shared / "esc10" / "audio" / DOG).read_bytes())
        assert page.heard()
        page.tab.click("#as-table summary")
        page.tab.wait_for_selector("#rows td:has-text('Dog')", timeout=5000)
        assert [address for address in page.requests[before:] if not address.startswith("blob:")] == []
        assert page.problems == []


@pytest.mark.long
def test_it_fits_a_phone(browser: Any, web_bundle: str, shared: Path) -> None:
    with open_page(browser, web_bundle, viewport={"width": 360, "height": 740}) as page:
        page.drop(DOG, (shared / "esc10" / "audio" / DOG).read_bytes())
        assert page.tab.evaluate("document.documentElement.scrollWidth") <= 360
