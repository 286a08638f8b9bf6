"""A page of a web bundle in Chromium, as a test uses it."""

from __future__ import annotations

import base64
import json
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from satexport.audio.files import read_audio
from satexport.step import FloatArray
from satexport.tagging.tagger import Tagger

LOADED = 60_000  # ms, at most
REPORT = "/reports/parity.json"
DROP = """([name, text]) => {
    const bytes = Uint8Array.from(atob(text), (c) => c.charCodeAt(0));
    const data = new DataTransfer();
    data.items.add(new File([bytes], name));
    for (const type of ['dragenter', 'dragover', 'drop'])
        document.body.dispatchEvent(
            new DragEvent(type, {dataTransfer: data, bubbles: true, cancelable: true}));
}"""


@dataclass(kw_only=True)
class OpenPage:
    """The page, and what the browser reported."""

    tab: Any                      # playwright.sync_api.Page
    problems: list[str] = field(default_factory=list)  # errors and warnings on the console
    requests: list[str] = field(default_factory=list)  # addresses

    def note(self, message: Any) -> None:
        """Keep what the console says. That there is no report of parity is no problem of the page."""
        if message.type in ("error", "warning") and not message.location["url"].endswith(REPORT):
            self.problems.append(message.text)

    @property
    def state(self) -> str:
        return str(self.tab.get_attribute("#state", "data-state"))

    def wait(self, state: str) -> None:
        self.tab.wait_for_selector(f"#state[data-state={state}]", timeout=LOADED)

    @property
    def notices(self) -> str:
        return str(self.tab.inner_text("#notices"))

    def drop(self, name: str, content: bytes) -> None:
        self.tab.evaluate(DROP, [name, base64.b64encode(content).decode()])
        self.wait("ready")

    def clear(self, threshold: float = 0.3) -> None:
        """Forget what was heard and said, and set the threshold."""
        self.tab.locator("#threshold").fill(str(threshold))
        if self.tab.is_enabled("#clear"):
            self.tab.click("#clear")
        while self.tab.locator("#notices button").count():
            self.tab.locator("#notices button").first.click()

    def saved(self, kind: str = "json") -> str:
        """What a click on a button for saving writes."""
        with self.tab.expect_download() as download:
            self.tab.click(f"#{kind}")
        return Path(download.value.path()).read_text("utf-8")

    def heard(self) -> list[dict[str, Any]]:
        return list(json.loads(self.saved())["heard"])


@contextmanager
def open_page(browser: Any, address: str, *, state: str = "ready", script: str = "",
              permissions: Sequence[str] = (), **options: Any) -> Iterator[OpenPage]:
    """Open the page of a bundle in a context of its own, run `script` before the page's, and wait for a
    state."""
    context = browser.new_context(permissions=list(permissions), **options)
    tab = context.new_page()
    page = OpenPage(tab=tab)
    tab.on("console", page.note)
    tab.on("pageerror", lambda error: page.problems.append(str(error)))
    context.on("request", lambda request: page.requests.append(request.url))
    if script:
        tab.add_init_script(script)
    try:
        tab.goto(address)
        if state:
            page.wait(state)
        yield page
    finally:
        context.close()


def scores_of(tagger: Tagger, path: Path) -> FloatArray:
    """The scores [chunks, classes] that `satexport run` gives for a file."""
    stream = tagger.stream()
    audio = read_audio(path, tagger.contract.sample_rate)
    return np.concatenate([part.scores for part in (stream.feed_all(audio), stream.flush_all())])


def largest_difference(tagger: Tagger, heard: list[dict[str, Any]], expected: FloatArray) -> float:
    """The largest score difference over what was heard, and over what should have been heard: scores that the
    page does not keep count as the lowest that it keeps."""
    hop = tagger.contract.hop_seconds
    found = np.minimum(expected, 0.05)
    for row in heard:
        found[round(row["start"] / hop), tagger.labels.index(row["label"])] = row["score"]
    return float(np.abs(found - expected).max())
