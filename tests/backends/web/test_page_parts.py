"""Parts of the page that a test of the whole page does not reach: headers of files, bounds, reports, what is
saved."""

from __future__ import annotations

import base64
import struct
from collections.abc import Iterator
from typing import Any

import pytest

from tests.backends.web.containers import adts, mp4
from tests.backends.web.tab import Tab


@pytest.fixture(scope="module")
def tab(browser: Any, web_bundle: str) -> Iterator[Tab]:
    context = browser.new_context()
    yield Tab(context, web_bundle)
    context.close()


@pytest.mark.parametrize(("content", "kind", "rate"), [
    (mp4(44100, b"\x12\x10"), "MP4", 44100),                    # AAC-LC
    (mp4(44100, b"\x12\x10", wide=True), "MP4", 44100),
    (mp4(24000, b"\x2b\x09\x88"), "MP4", 48000),                # HE-AAC: SBR doubles the rate
    (adts(8), "AAC", 16000),
    (b"ID3\x04\x00\x00\x00\x00\x00\x05hello" + (b"\xff\xf3\x44\xc4" + bytes(92)) * 2, "MP3", 24000),
    (b"\x1aE\xdf\xa3" + bytes(20) + b"\x86\x86A_OPUS" + bytes(40), "WebM", 48000),
    (b"\x1aE\xdf\xa3" + bytes(20) + b"\x86\x88A_VORBIS\xe1\xb5\x88" + struct.pack(">d", 22050) + bytes(20),
     "WebM", 22050),
    (b"nothing that is known" * 9, None, None)])
def test_the_own_rate_of_a_file_is_in_its_header(tab: Tab, content: bytes, kind: str | None,
                                                 rate: int | None) -> None:
    found = tab.run("""
        const {HEAD, identify} = await import('./containers.js');
        const {rateOf} = await import('./decode.js');
        const file = new File([Uint8Array.from(atob(given), (c) => c.charCodeAt(0))], 'file');
        return rateOf(file, identify(new Uint8Array(await file.slice(0, HEAD).arrayBuffer())));""",
                    base64.b64encode(content).decode())
    assert (found and found["kind"], found and found["rate"]) == (kind, rate)


def test_hours_of_listening_are_bounded_and_the_loss_is_counted(tab: Tab) -> None:
    kept, dropped, first = tab.run("""
        const {History} = await import('./history.js');
        const history = new History(1000), source = history.begin('microphone', true);
        const scores = new Float32Array(527).fill(0.5);
        for (let index = 0; index < 5000; index++)
            history.add(source, {index, start: 2 * index, end: 2 * index + 2, scores});
        return [history.chunks.length, history.dropped, history.chunks[0].start];""")
    assert 1000 <= kept <= 1256
    assert kept + dropped == 5000
    assert first == 2 * dropped


PARITY = {"bundle_sha256": "ab", "verdict": "passed", "differences": {
    "live audio": {"chunks": 9, "largest": 0.0012, "top1_agreement": 1}}}


@pytest.mark.parametrize(("report", "words"), [
    (PARITY, "largest score difference 0.0012, same top sound in 100 % of 9 chunks"),
    (PARITY | {"differences": {"live audio": {"chunks": 9, "largest": None, "top1_agreement": 1}}},
     "largest score difference not a number"),
    (PARITY | {"differences": {"live audio": None}}, "reports/parity.json cannot be read"),
    (PARITY | {"labelled_set": {"name": "esc10", "bundle_map": 0.9, "pytorch_map": 0.95}},
     "0.900 (PyTorch: 0.950)"),
    (PARITY | {"labelled_set": {"name": "esc10"}}, "reports/parity.json cannot be read"),
    (PARITY | {"bundle_sha256": "cd"}, "reports/parity.json is about another bundle"),
    (None, "this folder has no report of parity")])
def test_a_report_of_parity_is_shown_or_it_is_said_why_not(tab: Tab, report: object, words: str) -> None:
    shown = tab.run("""
        document.body.innerHTML = '<div id="parity"></div>';
        globalThis.fetch = async () => ({ok: true, json: async () => given});
        const {showParity} = await import('./about.js');
        await showParity(new URL('/', location), 'ab');
        return document.body.innerText;""", report)
    assert words in shown


def test_saved_files_say_what_was_lost_and_hold_no_formula(tab: Tab) -> None:
    saved, csv = tab.run("""
        const {History} = await import('./history.js');
        const {toCsv, toJson} = await import('./record.js');
        const history = new History(), scores = Float32Array.of(0.9, 0.5);
        for (const [name, lost] of [['=1+2', 0], ['microphone', 1.25], ['a "b".wav', 0]]) {
            const source = history.begin(name, true);
            source.begun = null;
            source.lost = lost;
            history.add(source, {index: 0, start: 0, end: 2, scores});
        }
        return [JSON.parse(toJson(history, ['-x', 'y'], 0.3, {})), toCsv(history, ['-x', 'y'], 0.3)];""")
    assert saved["lost_seconds"] == 1.25
    assert [row["source"] for row in saved["heard"]][::2] == ["=1+2", "microphone", 'a "b".wav']
    assert csv.split("\r\n")[1:-1] == [
        "'=1+2,,0,2,'-x,0.9", "'=1+2,,0,2,y,0.5", "microphone,,0,2,'-x,0.9", "microphone,,0,2,y,0.5",
        "\"a \"\"b\"\".wav\",,0,2,'-x,0.9", "\"a \"\"b\"\".wav\",,0,2,y,0.5"]


def test_sounds_stay_in_their_places_until_one_overtakes(tab: Tab) -> None:
    orders = tab.run("""
        const {arrange} = await import('./tags.js');
        const tags = (...scores) => scores.map((score, index) => ({index, label: '', score}))
            .sort((a, b) => b.score - a.score);
        const first = arrange([], tags(0.9, 0.8, 0.1)).map((tag) => tag.index);
        const close = arrange(first, tags(0.8, 0.9, 0.1)).map((tag) => tag.index);
        const clear = arrange(close, tags(0.3, 0.9, 0.1)).map((tag) => tag.index);
        return [first, close, clear];""")
    assert orders == [[0, 1, 2], [0, 1, 2], [1, 0, 2]]
