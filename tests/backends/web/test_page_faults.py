"""Whatever keeps the page from its work, it says what to do."""

from __future__ import annotations

import importlib.resources
from pathlib import Path
from typing import Any

import pytest

from tests.backends.web.page import LOADED, open_page

STATIC = importlib.resources.files("satexport.backends.web") / "static"
# what a page of another machine over plain http lacks
INSECURE = """
    Object.defineProperty(Navigator.prototype, 'mediaDevices', {value: undefined});
    Object.defineProperty(Crypto.prototype, 'subtle', {value: undefined});
    Object.defineProperty(globalThis, 'isSecureContext', {value: false});
    delete globalThis.AudioWorkletNode;"""

NO_DEVICE = """
    MediaDevices.prototype.getUserMedia = async () => {
        throw new DOMException('Requested device not found', 'NotFoundError');
    };"""


@pytest.fixture
def served(web_bundle: str) -> str:
    return f"{web_bundle}/"


@pytest.mark.long
def test_without_a_microphone_it_says_to_plug_one_in(browser: Any, served: str) -> None:
    with open_page(browser, served, permissions=["microphone"], script=NO_DEVICE) as page:
        page.tab.click("#listen")
        page.tab.wait_for_selector("#notices .notice")
        assert "No microphone was found." in page.notices
        assert page.state == "ready"


@pytest.mark.long
def test_over_plain_http_it_says_so_and_reads_files(browser: Any, served: str, shared: Path) -> None:
    with open_page(browser, served, script=INSECURE) as page:
        assert "No microphone over plain http." in page.notices
        assert "https" in page.notices
        assert page.tab.is_disabled("#listen")
        clip = shared / "esc10" / "audio" / "4-207124-A-0.ogg"
        page.drop(clip.name, clip.read_bytes())
        assert "Dog" in page.tab.inner_text("#tags")
        assert page.problems == []


def test_from_a_file_path_it_says_to_serve_the_folder(browser: Any) -> None:
    with open_page(browser, Path(str(STATIC / "index.html")).resolve().as_uri(), state="") as page:
        page.tab.wait_for_selector("#first.now")
        assert "opened from a file" in page.tab.inner_text("#first")
        assert "http.server" in page.tab.inner_text("#first")


def test_without_javascript_it_says_to_switch_it_on(browser: Any, served: str) -> None:
    with open_page(browser, served, state="", java_script_enabled=False) as page:
        assert "Switch JavaScript on" in page.tab.inner_text("main")


@pytest.mark.long
@pytest.mark.parametrize("name", ["model.onnx.data", "capture.js", "decode.js", "page.css", "index.html"])
def test_a_changed_file_is_named_and_not_used(browser: Any, served: str, name: str) -> None:
    def change(route: Any) -> None:
        answer = route.fetch()
        content = bytearray(answer.body())
        content[-1] ^= 1
        route.fulfill(response=answer, body=bytes(content))

    with open_page(browser, "about:blank", state="") as page:
        page.tab.context.route(f"**/{name}", change)
        page.tab.goto(served)
        page.wait("failed")
        assert "The bundle in this folder cannot be used." in page.notices
        assert f"{name} was modified" in page.notices


def test_a_missing_file_is_named(browser: Any, served: str) -> None:
    with open_page(browser, "about:blank", state="") as page:
        page.tab.context.route("**/model.onnx", lambda route: route.fulfill(status=404))
        page.tab.goto(served)
        page.wait("failed")
        assert "model.onnx is missing" in page.notices


@pytest.mark.parametrize(("answer", "words"), [
    ({"status": 404}, "A part of this page is missing."),
    ({"body": "not a script (", "content_type": "text/javascript"}, "The page could not start.")])
def test_a_page_that_lacks_a_module_says_so(browser: Any, served: str, answer: dict[str, Any],
                                            words: str) -> None:
    with open_page(browser, "about:blank", state="") as page:
        page.tab.context.route("**/timeline.js", lambda route: route.fulfill(**answer))
        page.tab.goto(served)
        page.tab.wait_for_selector("#first.now", timeout=LOADED)
        assert words in page.tab.inner_text("#first")


def test_a_browser_that_lacks_something_is_told_which_one_has_it(browser: Any, served: str) -> None:
    with open_page(browser, served, script="delete globalThis.Worker", state="failed") as page:
        assert "This browser cannot run the model." in page.notices
        assert "Chrome or Edge 105, Firefox 121" in page.notices
