"""What can happen to a microphone and to a device, with parts of the browser that a test replaces."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from tests.backends.web.tab import Tab

MODEL = "{contract: {hop_samples: 32000, sample_rate: 16000}}"
CONTEXT = """
    const closed = [], stopped = [];
    class Context {
        constructor({sampleRate = 44100} = {}) {
            if (given === 'a rate' && sampleRate === 48000) throw new Error(given);
            Object.assign(this, {sampleRate, state: 'running', number: closed.push(false) - 1});
            this.audioWorklet = {addModule: async () => {
                if (given === 'capture.js') throw new Error(given);
            }};
        }
        createMediaStreamSource() {
            if (given === 'a track' || given === 'its rate' && this.sampleRate === 48000)
                throw new Error(given);
            return {};
        }
        async close() { closed[this.number] = true; }
    }
    globalThis.AudioContext = Context;
    globalThis.AudioWorkletNode = class {};
    const track = {getSettings: () => ({sampleRate: 48000}), stop: () => stopped.push(true)};
    const media = {getAudioTracks: () => [track], getTracks: () => [track]};
    navigator.mediaDevices.getUserMedia = async () => media;
    const {Microphone} = await import('./microphone.js');
    let rate = null;
    const error = await attempt(async () => { rate = (await Microphone.open('', 'capture.js')).rate; });
    return [rate, error?.message ?? null, closed, stopped.length];
"""


@pytest.fixture(scope="module")
def tab(browser: Any, web_bundle: str) -> Iterator[Tab]:
    context = browser.new_context()
    yield Tab(context, web_bundle)
    context.close()


@pytest.mark.parametrize(("behind", "key", "words"), [
    (1.9, "behind", None), (13.0, "behind", "more than 10 s behind"), (61.0, "broken", "too slow to listen")])
def test_a_device_that_falls_behind_is_told_by_how_much(tab: Tab, behind: float, key: str,
                                                        words: str | None) -> None:
    told = tab.run(f"const MODEL = {MODEL};" + """
        const {Listener} = await import('./listener.js');
        const told = {};
        const listener = new Listener(MODEL, {
            onNotice: (key, notice) => { told[key] = notice?.title ?? null; },
            onBroken: (notice) => { told.broken = notice.title; }});
        listener.stream = {behind: given};
        listener.checkSpeed();
        return told;""", behind)
    assert told[key] is None if words is None else words in told[key]


@pytest.mark.parametrize(("refused", "found"), [
    ("nothing", [48_000, None, [False], 0]),
    ("a rate", [44_100, None, [False], 0]),                # by the context
    ("its rate", [44_100, None, [True, False], 0]),        # by the source, as Firefox does
    ("a track", [None, "a track", [True, True], 1]),
    ("capture.js", [None, "capture.js", [True], 1])])
def test_a_microphone_that_does_not_open_leaves_nothing_open(
        tab: Tab, refused: str, found: list[Any]) -> None:
    assert tab.run(CONTEXT, refused) == found


def test_a_paused_microphone_goes_on_after_a_press_or_a_key(tab: Tab) -> None:
    resumed = tab.run(f"const MODEL = {MODEL};" + """
        const {Listener} = await import('./listener.js');
        let resumed = 0;
        const told = [], context = {state: 'suspended', resume: async () => { resumed++; }};
        const listener = new Listener(MODEL, {onNotice: (key, notice) => told.push([key, notice !== null])});
        listener.microphone = {context};
        const after = (event) => { document.dispatchEvent(new Event(event)); return resumed; };
        listener.onState();
        listener.onState();
        const counts = [after('keydown'), after('pointerdown'), after('keydown')];
        context.state = 'running';
        listener.onState();
        return [...counts, after('keydown'), told];""")
    assert resumed == [1, 2, 3, 3, [["paused", True]] * 2 + [["paused", False]]]


def test_lost_sound_is_counted_and_said_also_after_listening(tab: Tab) -> None:
    lost, told = tab.run(f"const MODEL = {MODEL};" + """
        const {Listener} = await import('./listener.js');
        const told = {}, lost = [];
        const listener = new Listener(MODEL, {
            onNotice: (key, notice) => { told[key] = notice?.title ?? null; },
            onLevel: (level, captured, seconds) => lost.push(seconds)});
        listener.microphone = {rate: 48000, track: {}, context: {}, stop: async () => {}};
        listener.onLevel({peak: 0.1, rms: 0.1, captured: 48000, lost: 24000});
        await listener.stop();
        return [lost, told.lost];""")
    assert (lost, told) == ([0.5], "0.5 s of sound were lost.")


def test_what_the_module_refuses_is_not_said_to_be_the_browsers(tab: Tab) -> None:
    notice = tab.run("""
        const {refusal} = await import('./words.js');
        const {SatexportError} = await import('./satexport.js');
        return refusal(new SatexportError('audio', 'the sample rate is 384000.'));""")
    assert notice == {"title": "The microphone did not start.", "text": "the sample rate is 384000."}
