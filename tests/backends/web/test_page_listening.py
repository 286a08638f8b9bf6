"""The page listens to a microphone that Chromium plays from a file."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from satexport.backends.web.browser import chromium_flags
from satexport.backends.web.server import serve_folder
from tests import ROOT
from tests.backends.web.page import OpenPage, open_page
from tests.machine import need

CLIPS = {"4-207124-A-0.ogg": "Dog", "4-198965-A-38.ogg": "Tick-tock",
         "4-167077-B-20.ogg": "Baby cry, infant cry", "4-125929-A-40.ogg": "Helicopter"}
CHUNK = 2   # s
CLIP = 3    # s of each clip
# Keep what capture.js says last and how much memory the Worker has; be able to end the microphone's track and
# to hide the tab.
SCRIPT = """
    const ask = MediaDevices.prototype.getUserMedia;
    MediaDevices.prototype.getUserMedia = async function (options) {
        window.asked = options;
        window.media = await ask.call(this, options);
        return window.media;
    };
    window.AudioWorkletNode = class extends AudioWorkletNode {
        constructor(context, ...more) {
            super(context, ...more);
            window.rate = context.sampleRate;
            this.port.addEventListener('message', ({data}) => { window.level = data; });
        }
    };
    window.Worker = class extends Worker {
        constructor(...given) {
            super(...given);
            this.addEventListener('message', ({data}) => { window.memory = data?.memory; });
        }
    };
    let hidden = false;
    Object.defineProperty(document, 'hidden', {get: () => hidden});
    Object.defineProperty(document, 'visibilityState', {get: () => hidden ? 'hidden' : 'visible'});
    const frame = requestAnimationFrame.bind(window), timer = setTimeout.bind(window);
    window.requestAnimationFrame = (call) => hidden ? 1 : frame(call);
    window.setTimeout = (call, ms, ...more) => timer(call, hidden ? Math.max(ms ?? 0, 60000) : ms, ...more);
    window.hideTab = (value) => { hidden = value; document.dispatchEvent(new Event('visibilitychange')); };
"""
LOUDNESS = """() => {
    const words = document.getElementById('level-text').textContent;  // or "silent", between two sounds
    return words.endsWith(' dBFS') && words;
}"""


@contextmanager
def with_microphone(browser: Any, chromium: str, *more: str) -> Iterator[Any]:
    """A browser of its own with a microphone that is played by Chromium."""
    flags = [*chromium_flags(), "--use-fake-device-for-media-stream",
             "--autoplay-policy=no-user-gesture-required", *more]
    hearing = browser.browser_type.launch(executable_path=chromium, args=flags)
    try:
        yield hearing
    finally:
        hearing.close()


@pytest.fixture(scope="module")
def clips(shared: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The beginnings of four real clips, one after the other, which Chromium repeats."""
    soundfile = need("soundfile", "audio")
    path = tmp_path_factory.mktemp("microphone") / "clips.wav"
    parts = [soundfile.read(shared / "esc10" / "audio" / name, CLIP * 44_100, dtype="float32")[0]
             for name in CLIPS]
    soundfile.write(path, need("soxr", "audio").resample(np.concatenate(parts), 44100, 48000), 48000,
                    subtype="PCM_16")
    return path


@pytest.fixture(scope="module")
def hearing(browser: Any, chromium: str, clips: Path) -> Iterator[Any]:
    """A browser whose microphone plays the clips, and is allowed."""
    more = "--use-fake-ui-for-media-stream", f"--use-file-for-fake-audio-capture={clips}"
    with with_microphone(browser, chromium, *more) as hearing:
        yield hearing


@contextmanager
def listening(hearing: Any, address: str) -> Iterator[OpenPage]:
    """A page that listens to the clips."""
    with open_page(hearing, address, script=SCRIPT, permissions=["microphone"],
                   accept_downloads=True) as page:
        page.clear()
        page.tab.click("#listen")
        page.wait("listening")
        yield page


def wait_until(page: OpenPage, heard: float) -> None:
    """Wait in real time until the page has listened for so many seconds."""
    while True:
        words = page.tab.inner_text("#state-text")
        assert words.startswith("Listening"), words
        minutes, _, rest = words.rpartition(" ")[2].rpartition(":")
        if minutes and 60 * int(minutes) + int(rest) >= heard:
            return
        page.tab.wait_for_timeout(200)  # in Python: the page's own timers may be throttled


def check_chunks(page: OpenPage, least: float) -> None:
    """No chunk is lost: those of all samples that were captured are there, one after the other. Every chunk
    of the clips has a score of 0.05. What a busy browser did not capture is counted in the saved file."""
    captured, lost, rate = page.tab.evaluate("[window.level.captured, window.level.lost, window.rate]")
    assert captured >= least * rate
    count = math.ceil(captured / rate / CHUNK)
    page.tab.locator("#threshold").fill("0.05")
    report = json.loads(page.saved())
    assert report["chunks"] == count
    assert sorted({row["start"] for row in report["heard"]}) == list(range(0, count * CHUNK, CHUNK))
    assert report["lost_seconds"] == pytest.approx(lost / rate, abs=0.001)


@pytest.mark.long
def test_sounds_appear_and_no_chunk_is_lost_also_in_the_background(
        hearing: Any, web_bundle: str) -> None:
    with listening(hearing, web_bundle) as page:
        asked = page.tab.evaluate("window.asked.audio")
        processing = "echoCancellation", "noiseSuppression", "autoGainControl"
        assert [asked[name] for name in processing] == [False] * 3
        before = len(page.requests)
        wait_until(page, 4)
        level = page.tab.wait_for_function(LOUDNESS).json_value()
        assert -59 <= -int(level.removeprefix("\u2212").removesuffix(" dBFS")) <= -3  # of real clips
        page.tab.evaluate("hideTab(true)")
        wait_until(page, 9)
        page.tab.evaluate("hideTab(false)")
        wait_until(page, 12)
        page.tab.click("#listen")
        page.wait("ready")
        labels = {row["label"] for row in page.heard()}
        assert len(labels & set(CLIPS.values())) >= 3, labels
        check_chunks(page, 12)
        assert page.tab.locator("#notices .error").count() == 0
        assert page.problems == []
        own = [address for address in page.requests[before:] if not address.startswith("blob:")]
        assert own == []  # nothing from the network after loading


@pytest.mark.long
def test_a_microphone_that_is_unplugged_is_said_and_what_was_heard_is_kept(
        hearing: Any, web_bundle: str) -> None:
    with listening(hearing, web_bundle) as page:
        page.tab.wait_for_selector("#json:enabled")  # a chunk
        page.tab.evaluate("window.media.getAudioTracks()[0].dispatchEvent(new Event('ended'))")
        page.wait("ready")
        assert "The microphone is gone." in page.notices
        assert page.tab.is_enabled("#json")
        page.tab.click("#listen")
        page.wait("listening")
        assert page.notices == ""


@pytest.mark.long
def test_without_permission_it_says_how_to_allow_the_microphone(
        browser: Any, chromium: str, web_bundle: str) -> None:
    with with_microphone(browser, chromium) as hearing, open_page(hearing, web_bundle) as page:
        page.tab.click("#listen")
        page.tab.wait_for_selector("#notices .notice")
        assert "The microphone is not allowed." in page.notices
        assert "site settings" in page.notices
        assert page.state == "ready"  # and may be asked again
        assert page.tab.is_enabled("#listen")


@pytest.mark.long
def test_two_minutes_of_listening_lose_nothing_and_keep_the_heap(
        hearing: Any, web_bundle: str) -> None:
    with listening(hearing, web_bundle) as page:
        session = page.tab.context.new_cdp_session(page.tab)

        def heap() -> int:
            session.send("HeapProfiler.enable")
            session.send("HeapProfiler.collectGarbage")
            session.send("HeapProfiler.disable")
            return int(session.send("Runtime.getHeapUsage")["usedSize"])

        wait_until(page, 60)
        first, memory = heap(), page.tab.evaluate("window.memory")
        wait_until(page, 120)
        grown = heap() - first
        assert page.tab.evaluate("window.memory") == memory > 1e7  # of WebAssembly, in the Worker
        page.tab.click("#listen")
        page.wait("ready")
        check_chunks(page, 120)
        assert page.problems == []
        print(f"the heap grew by {grown / 1e6:.2f} MB in the second minute, of {first / 1e6:.1f} MB")
        assert grown < 1e6


@pytest.mark.long
def test_the_lines_of_the_documentation_hear_a_microphone(
        hearing: Any, web_int8: Path, tmp_path: Path) -> None:
    page = re.search(r"```html\n(.*?)```", (ROOT / "docs" / "web.md").read_text("utf-8"), re.DOTALL)
    assert page
    (tmp_path / "index.html").write_text(page[1], "utf-8")
    (tmp_path / "web-int8").symlink_to(web_int8, target_is_directory=True)
    with serve_folder(tmp_path) as address:
        context = hearing.new_context(permissions=["microphone"])
        tab = context.new_page()
        tab.goto(address)
        tab.wait_for_function("window.onclick")
        with tab.expect_console_message(lambda message: message.type == "log", timeout=60_000) as said:
            tab.mouse.click(5, 5)
        end, tags = (argument.json_value() for argument in said.value.args)
        context.close()
    assert end == 2
    assert len(tags) == 3
    assert 1 > tags[0]["score"] >= tags[1]["score"] > 0
