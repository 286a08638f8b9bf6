"""Streams of the module: what they score, what they refuse, and what they keep if a step fails."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from satexport.audio.synthetic import synthetic_clip
from tests.backends.web.tab import Tab, to_text

RATE = 44_100  # Hz
LOAD = """
    const {load, top, SatexportError} = await import('/satexport.js');
    Object.assign(window, {highest: top, SatexportError, model: await load()});
    window.same = (a, b) => a.length === b.length && a.every((chunk, at) =>
        ['index', 'start', 'end'].every((key) => chunk[key] === b[at][key])
        && chunk.scores.every((score, label) => score === b[at].scores[label]));
    window.scoresOf = async (samples, rate, sizes, stream = model.stream()) => {
        const chunks = [];
        for (let at = 0, turn = 0; at < samples.length; turn++) {
            const size = sizes[turn % sizes.length];
            chunks.push(...await stream.feed(samples.subarray(at, at += size), rate));
        }
        return [...chunks, ...await stream.flush()];
    };
"""


@pytest.fixture(scope="module")
def tab(browser: Any, web_bundle: str) -> Iterator[Tab]:
    """A page with the demo in int8 as `model`."""
    context = browser.new_context()
    tab = Tab(context, web_bundle)
    tab.run(LOAD)
    yield tab
    context.close()


@pytest.fixture(scope="module")
def sound() -> str:
    return to_text(clip(RATE))


def clip(rate: int) -> NDArray[np.float32]:
    """Two and a half chunks of a synthetic sound."""
    return synthetic_clip("evaluate", 0, 5.0, rate=rate)[0]


def test_golden_chunks_in_int8_keep_their_top_label(tab: Tab) -> None:
    proof = tab.run("const seen = [], proof = await model.prove((done, total) => seen.push([done, total]));"
                    "return {...proof, seen};")
    assert (proof["top1"], proof["largest"] < 0.02, proof["mean"] < 1e-3) == (1, True, True), proof
    assert proof["seen"] == [[index + 1, proof["chunks"]] for index in range(proof["chunks"])]
    assert len(proof["stepMs"]) == proof["chunks"] >= 12


def test_a_model_says_what_it_is(tab: Tab) -> None:
    facts = tab.run("""
        const {labels, contract, threads, loadSeconds, downloadSeconds} = model;
        return {labels: labels.length, variant: contract.variant, threads, memory: model.memoryBytes(),
                seconds: [loadSeconds, downloadSeconds]};
    """)
    assert (facts["labels"], facts["variant"], facts["threads"]) == (527, "sat-t-2s", 1)
    assert facts["memory"] > 1e7
    assert 0 < facts["seconds"][1] < facts["seconds"][0]


def test_the_size_of_blocks_changes_no_bit_of_a_score(tab: Tab, sound: str) -> None:
    assert tab.run("""
        const samples = floats(given), whole = await scoresOf(samples, 44100, [samples.length]);
        const odd = await scoresOf(samples, 44100, [1, 0, 4999, 128, 70001]);
        return [whole.length, whole.map(({index, start, end}) => [index, start, end]), same(whole, odd)];
    """, sound) == [3, [[0, 0, 2], [1, 2, 4], [2, 4, 6]], True]


def test_streams_that_run_at_the_same_time_do_not_mix(tab: Tab, sound: str) -> None:
    assert tab.run("""
        const one = floats(given), other = one.slice().reverse();
        const alone = [await scoresOf(one, 44100, [1e9]), await scoresOf(other, 44100, [1e9])];
        const together = await Promise.all([scoresOf(one, 44100, [9000]), scoresOf(other, 44100, [7001])]);
        return [same(alone[0], together[0]), same(alone[1], together[1]), same(alone[0], alone[1])];
    """, sound) == [True, True, False]


def test_calls_that_are_not_awaited_are_carried_out_in_order(tab: Tab, sound: str) -> None:
    assert tab.run("""
        const samples = floats(given), told = [];
        const stream = model.stream({onScores: (chunk) => told.push(chunk)});
        const before = stream.feed(samples, 44100), restarted = stream.reset();
        const after = stream.feed(samples, 44100), rest = stream.flush();
        const calls = [await before, await after, await rest];
        const once = await scoresOf(samples, 44100, [1e9]);
        return [calls.map((chunks) => chunks.length), same(calls[0], calls[1]), same(told, calls.flat()),
                same(once, calls.slice(1).flat()), stream.behind];
    """, sound) == [[2, 2, 1], True, True, True, 0]


def test_a_stream_after_reset_is_a_new_stream(tab: Tab, sound: str) -> None:
    assert tab.run("""
        const samples = floats(given), stream = model.stream();
        await stream.feed(samples.subarray(0, 150001), 44100);
        const behind = stream.behind;
        await stream.reset();
        const again = await scoresOf(samples.subarray(0, 100000), 16000, [5000], stream);
        return [behind.toFixed(3), same(again, await scoresOf(samples.subarray(0, 100000), 16000, [1e9]))];
    """, sound) == [f"{150_001 / RATE - 2:.3f}", True]


def test_samples_that_are_no_audio_are_refused_and_change_nothing(tab: Tab, sound: str) -> None:
    found = tab.run("""
        const samples = floats(given), stream = model.stream(), bad = samples.slice();
        bad[70000] = NaN;
        const first = await stream.feed(samples.subarray(0, 100000), 44100);
        const calls = [
            () => stream.feed(bad, 44100), () => stream.feed(samples.map(() => -9), 44100),
            () => stream.feed(Array.from(samples), 44100), () => stream.feed(samples, 48000),
            () => stream.feed(samples, 7999), () => stream.feed(samples, 44100.5),
            () => stream.step(samples)];
        const errors = [];
        for (const call of calls) errors.push(await attempt(call));
        const rest = await scoresOf(samples.subarray(100000), 44100, [1e9], stream);
        return {errors, same: same([...first, ...rest], await scoresOf(samples, 44100, [1e9]))};
    """, sound)
    assert found["same"]
    assert [error["kind"] for error in found["errors"]] == ["audio"] * 7
    parts = ("contain NaN or infinity", "reach 9.00", "are Array, expected a Float32Array",
             "at 48000 Hz, those before were at 44100 Hz", "is 7999, expected a whole number", "is 44100.5",
             "has 220500 samples, expected 32000")
    for part, error in zip(parts, found["errors"], strict=True):
        assert part in error["message"]
        assert "The stream was not changed" in error["message"]


def test_blocks_from_a_port_give_the_same_scores_and_their_errors_are_told(tab: Tab, sound: str) -> None:
    found = tab.run("""
        const samples = floats(given).subarray(0, 4.2 * 44100), told = [], errors = [];
        let enough;
        const done = new Promise((resolve) => { enough = resolve; });
        const stream = model.stream({
            onScores: (chunk) => { if (told.push(chunk) === 2) enough(); },
            onError: (error) => {
                errors.push([error.kind, error instanceof SatexportError, stream.behind < 50]);
            }});
        const port = stream.port(44100);
        for (let at = 0; at < samples.length; at += 128) {
            port.postMessage(samples.slice(at, at + 128));
            if (at === 12800) port.postMessage(new Float32Array(100 * 44100).fill(NaN));
        }
        await done;
        const rest = await stream.flush(), whole = await scoresOf(samples, 44100, [1e9]);
        return {errors, same: same([...told.slice(0, 2), ...rest], whole), behind: stream.behind};
    """, sound)
    assert found == {"errors": [["audio", True, True]], "same": True, "behind": 0}


def test_what_is_behind_does_not_drift(tab: Tab) -> None:
    assert tab.run("""
        let refused;
        const error = new Promise((resolve) => { refused = resolve; });
        const stream = model.stream({onError: refused}), port = stream.port(44100), seen = [];
        port.postMessage(new Float32Array(20 * 44100).fill(NaN));
        await error;                                       // of a port, and then a reset
        await stream.reset();
        const samples = new Float32Array(16000);
        const feed = stream.feed(samples), before = stream.behind;
        seen.push(before, (await feed, stream.behind));
        const flush = stream.flush(), more = stream.feed(samples);  // while the flush is on its way
        seen.push((await flush, stream.behind), (await more, stream.behind));
        await attempt(() => stream.feed(new Float32Array(8000).fill(9)));
        seen.push(stream.behind);
        const last = stream.feed(samples);
        await stream.reset();
        seen.push(stream.behind);
        return [seen, (await last).length];
    """) == [[1, 1, 1, 1, 1, 0], 1]


def test_a_port_that_nobody_hears_any_more_says_so(tab: Tab) -> None:
    messages = tab.run("""
        const {load} = await import('/satexport.js'), other = await load(), told = [];
        for (const owner of [model, other]) {
            await new Promise((resolve) => {
                const stream = owner.stream({onError: (error) => resolve(told.push(error.message))});
                owner === other ? other.close() : stream.close();
                stream.port(16000);
            });
        }
        let worker;
        globalThis.Worker = class extends Worker {
            constructor(...given) { super(...given); worker = this; }
        };
        const last = await load(), stream = last.stream({onError: (error) => told.push(error.message)});
        stream.port(16000);
        await stream.feed(new Float32Array(9));
        worker.dispatchEvent(new ErrorEvent('error', {message: 'it crashed'}));
        return told;
    """)
    found = "the stream is closed", "the model is closed", "the Worker stopped (it crashed)"
    assert all(part in message for part, message in zip(found, messages, strict=True)), messages


def test_a_step_takes_one_window_beside_the_samples_that_wait(tab: Tab) -> None:
    assert tab.run("""
        const samples = floats(given), stream = model.stream(), other = model.stream();
        await stream.feed(samples.subarray(32000, 40000));
        const steps = [];
        for (const at of [0, 32000]) steps.push(await stream.step(samples.subarray(at, at + 32000)));
        const expected = await other.feed(samples.subarray(0, 64000)), behind = stream.behind;
        await other.feed(samples.subarray(32000, 40000));
        return [same(steps, expected), behind, same(await stream.flush(), await other.flush())];
    """, to_text(clip(16_000))) == [True, 0.5, True]


def test_a_closed_stream_or_model_says_so(tab: Tab) -> None:
    kinds = tab.run("""
        const {load} = await import('/satexport.js');
        const stream = model.stream();
        stream.close();
        const other = await load(), open = other.stream();
        const waiting = attempt(() => open.feed(new Float32Array(320000)));
        other.close();
        return [await attempt(() => stream.feed(new Float32Array(9))), await waiting,
                await attempt(() => open.flush()), await attempt(() => load(undefined, {threads: 0}))];
    """)
    assert [error["kind"] for error in kinds] == ["use"] * 4
    assert "the stream is closed" in kinds[0]["message"]
    assert "the model is closed" in kinds[1]["message"]


def test_a_stream_that_is_closed_stops_in_the_middle_of_a_long_feed(tab: Tab) -> None:
    found = tab.run("""
        let chunks = 0, begun;
        const first = new Promise((resolve) => { begun = resolve; });
        const stream = model.stream({onScores: () => { chunks++; begun(); }});
        const error = attempt(() => stream.feed(new Float32Array(100 * 32000)));
        await first;
        stream.close();
        return {error: await error, chunks};
    """)
    assert found["error"]["kind"] == "use"
    assert "closed before all was scored" in found["error"]["message"]
    assert found["chunks"] < 50


def test_the_highest_labels_come_first(tab: Tab) -> None:
    assert tab.run("return highest([0.1, 0.9, 0.5], ['a', 'b', 'c'], 2)") == [
        {"label": "b", "score": 0.9, "index": 1}, {"label": "c", "score": 0.5, "index": 2}]


FAKE = """
    const {AudioStream} = await import('/stream.js'), windows = [], chunks = [];
    let failures = given.failures;
    const step = {initialCache: () => 'silence', run: async (window, cache) => {
        if (windows.length === 2 && failures-- > 0) throw new Error('out of memory');
        windows.push([cache, ...window.map((sample) => 16 * sample)]);
        return {scores: window.slice(0, 1), embedding: null, cache: windows.length, stepMs: 0};
    }};
    const stream = new AudioStream(step, {sample_rate: 16000, window_samples: given.window, hop_samples: 3});
    const feed = (...samples) => attempt(() => stream.feed(
        Float32Array.from(samples, (sample) => sample / 16), 16000, (chunk) => chunks.push(chunk.index)));
"""


def test_a_failed_step_loses_no_sample(tab: Tab) -> None:
    found = tab.run(FAKE + """
        const errors = [await feed(1, 2, 3, 4, 5, 6, 7, 8, 9, 10), await feed(), await feed(11, 12, 13)];
        return {windows, chunks, waiting: stream.waiting, errors: errors.map((error) => error?.message)};
    """, {"failures": 2, "window": 3})
    assert found == {"windows": [["silence", 1, 2, 3], [1, 4, 5, 6], [2, 7, 8, 9], [3, 10, 11, 12]],
                     "chunks": [0, 1, 2, 3], "waiting": 1, "errors": ["out of memory", "out of memory", None]}


def test_a_longer_window_takes_earlier_samples_again(tab: Tab) -> None:
    found = tab.run(FAKE + """
        await feed(1, 2);
        await feed(3, 4, 5, 6, 7);
        await stream.flush(() => {});
        return {windows, waiting: stream.waiting};
    """, {"failures": 0, "window": 5})
    windows = [["silence", 0, 0, 1, 2, 3], [1, 2, 3, 4, 5, 6], [2, 5, 6, 7, 0, 0]]
    assert found == {"windows": windows, "waiting": 0}
