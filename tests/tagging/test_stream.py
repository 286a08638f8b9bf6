"""The stream on the demo bundle: any block size, reset, several at once, bad audio."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

import satexport
from satexport.errors import AudioError, RunError, UsageError
from satexport.step import FloatArray, Step
from satexport.tagging.stream import Stream
from satexport.tagging.tagger import Tagger, load


class Listening:
    """A step that records its inputs, and whose call number `fails` fails."""

    def __init__(self, step: Step) -> None:
        self._step, self.heard, self.fails = step, list[FloatArray](), 0

    def __getattr__(self, name: str) -> Any:
        return getattr(self._step, name)

    def __call__(self, x: FloatArray, cache: Any) -> Any:
        self.heard.append(x.copy())
        if len(self.heard) == self.fails:
            raise RunError("a step failed")
        return self._step(x, cache)


@pytest.fixture
def stream(tagger: Tagger) -> Stream:
    return tagger.stream()


@settings(max_examples=10)
@given(cuts=st.lists(st.integers(0, 160_000), max_size=12))
def test_blocks_of_any_size_give_the_scores_of_the_whole(
        tagger: Tagger, audio: FloatArray, cuts: list[int]) -> None:
    whole = tagger.stream().feed(audio[:160_000])
    assert whole.shape == (5, 527)
    stream = tagger.stream()
    blocks = np.split(audio[:160_000], sorted(cuts))
    np.testing.assert_array_equal(np.concatenate([stream.feed(b) for b in blocks]), whole)


def test_reset_repeats_the_first_scores(stream: Stream, audio: FloatArray) -> None:
    first = stream.feed(audio[:70_000])
    assert stream.waiting == 6_000
    assert not np.array_equal(stream.feed(audio[:64_000])[0], first[0])  # the cache has a history
    stream.reset()
    assert stream.waiting == 0
    np.testing.assert_array_equal(stream.feed(audio[:64_000]), first)


def test_the_cache_is_carried_from_chunk_to_chunk(tagger: Tagger, audio: FloatArray) -> None:
    carried = tagger.stream().feed(audio[:64_000])[1]
    assert np.abs(carried - tagger.stream().feed(audio[32_000:64_000])[0]).max() > 1e-3


def test_flush_scores_the_rest_padded_with_zeros(stream: Stream, tagger: Tagger, audio: FloatArray) -> None:
    assert stream.flush().shape == (0, 527)
    assert stream.feed(audio[:20_000]).shape == (0, 527)
    padded = np.concatenate((audio[:20_000], np.zeros(12_000, np.float32)))
    np.testing.assert_array_equal(stream.flush(), tagger.stream().feed(padded))
    assert stream.waiting == 0


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf, 3e4, 1e300])
def test_bad_samples_raise_and_leave_the_stream_unchanged(
        tagger: Tagger, audio: FloatArray, bad: float) -> None:
    stream, untouched = tagger.stream(), tagger.stream()
    for s in (stream, untouched):
        s.feed(audio[:40_000])
    broken = audio[:100_000].astype(np.float64)
    broken[90_000] = bad
    with pytest.raises(AudioError, match="expected floats in"):
        stream.feed(broken)
    assert stream.waiting == untouched.waiting
    np.testing.assert_array_equal(stream.feed(audio[40_000:90_000]), untouched.feed(audio[40_000:90_000]))


def test_wrong_shapes_and_types_are_named(stream: Stream) -> None:
    with pytest.raises(AudioError, match=r"shape \(2, 100\).*mono"):
        stream.feed(np.zeros((2, 100), np.float32))
    with pytest.raises(AudioError, match="int32"):
        stream.feed(np.zeros(100, np.int32))


def test_lists_of_different_lengths_are_refused(stream: Stream, lanes: Tagger) -> None:
    ragged: Any = [[0.0, 0.1], [0.2]]
    for use in (stream.feed, lanes.streams(2).feed):
        with pytest.raises(AudioError, match=r"are not an array .* equally many for each stream"):
            use(ragged)


def test_int16_and_double_samples_are_the_same_sound(tagger: Tagger, audio: FloatArray) -> None:
    pcm = np.round(audio[:64_000] * 32_767).astype(np.int16)
    floats = (pcm / 32_768).astype(np.float32)
    expected = tagger.stream().feed(floats)
    for order in "<>":
        np.testing.assert_array_equal(tagger.stream().feed(pcm.astype(f"{order}i2")), expected)
    with pytest.raises(AudioError, match="uint16"):
        tagger.stream().feed(pcm.astype(np.uint16))
    np.testing.assert_array_equal(tagger.stream().feed(floats.astype(np.float64)), expected)


@pytest.fixture(scope="module")
def one(tiny: Path) -> Tagger:
    """A small model for one stream."""
    return load(tiny)


@pytest.fixture(scope="module")
def lanes(tiny_lanes: Path) -> Tagger:
    """The same for any number of streams in one step."""
    return load(tiny_lanes)


@pytest.mark.parametrize("count", [1, 2, 5])
def test_streams_in_a_batch_score_like_single_streams(
        one: Tagger, lanes: Tagger, audio: FloatArray, count: int) -> None:
    sounds = audio[:count * 96_000].reshape(count, -1)
    streams = lanes.streams(count)
    found = np.concatenate([streams.feed(sounds[:, :50_000]), streams.feed(sounds[:, 50_000:])])
    assert found.shape == (3, count, 527)
    for lane, sound in enumerate(sounds):
        np.testing.assert_allclose(found[:, lane], one.stream().feed(sound), atol=2e-6)


def test_a_single_stream_can_be_reset_and_gets_silence_for_its_waiting_samples(
        one: Tagger, lanes: Tagger, audio: FloatArray) -> None:
    sounds = audio[:2 * 160_000].reshape(2, -1)
    streams = lanes.streams(2)
    streams.feed(sounds[:, :80_000])
    assert streams.waiting == 16_000
    streams.reset(1)
    assert streams.waiting == 16_000
    found = streams.feed(sounds[:, 80_000:])
    np.testing.assert_allclose(found[:, 0], one.stream().feed(sounds[0])[2:], atol=2e-6)
    again = np.concatenate((np.zeros(16_000, np.float32), sounds[1, 80_000:]))
    np.testing.assert_allclose(found[:, 1], one.stream().feed(again), atol=2e-6)


def test_only_the_number_of_streams_of_the_graph_is_accepted(one: Tagger, lanes: Tagger) -> None:
    with pytest.raises(UsageError, match="runs 1 streams in one step, not 4"):
        one.streams(4)
    for count in (None, 0, -3):
        with pytest.raises(UsageError, match="pass a number"):
            lanes.streams(count)
    with pytest.raises(UsageError, match=r"1000000000 streams .* GB are available. Use at most \d+"):
        lanes.streams(10**9)
    with pytest.raises(AudioError, match=r"shape \(2, 5\), expected \[3, n\]"):
        lanes.streams(3).feed(np.zeros((2, 5), np.float32))
    streams = lanes.streams(2)
    for number in (2, -1):
        with pytest.raises(UsageError, match=rf"no stream {number}; expected 0 to 1"):
            streams.reset(number)


def test_a_step_writes_to_the_other_buffer_and_keeps_its_input(
        tagger: Tagger, audio: FloatArray) -> None:
    cache = tagger.step.initial_cache(1)
    before = [array.copy() for array in cache[0].now]
    _, after = tagger.step(audio[None, :32_000], cache)
    np.testing.assert_array_equal(cache[0].now, before)
    assert [id(array) for array in after[0].now] == [id(array) for array in cache[0].spare]  # not copied
    _, third = tagger.step(audio[None, 32_000:64_000], after)
    assert [id(array) for array in third[0].now] == [id(array) for array in cache[0].now]


def test_after_a_failed_step_the_next_call_returns_all_missing_scores(
        tagger: Tagger, audio: FloatArray) -> None:
    def failing() -> Stream:
        step = Listening(tagger.step)
        step.fails = 2
        return Stream(step, tagger.contract)

    whole = tagger.stream()
    expected = np.concatenate([whole.feed(audio[:100_000]), whole.flush()])
    for more, rows in ((4_000, 3), (40_000, 4)):
        stream = failing()
        with pytest.raises(RunError):
            stream.feed(audio[:96_000])  # its first chunk was scored
        assert stream.waiting == 64_000
        found = stream.feed(audio[96_000:96_000 + more])
        assert len(found) == rows
        np.testing.assert_array_equal(found[:3], expected[:3])
        assert stream.feed([]).shape == (0, 527)
    stream = failing()
    with pytest.raises(RunError):
        stream.feed(audio[:100_000])
    np.testing.assert_array_equal(stream.flush(), expected)
    assert (stream.waiting, len(stream.flush())) == (0, 0)


def test_a_reset_drops_the_samples_of_a_failed_step(tagger: Tagger, audio: FloatArray) -> None:
    step = Listening(tagger.step)
    step.fails = 2
    stream = Stream(step, tagger.contract)
    with pytest.raises(RunError):
        stream.feed(audio[:96_000])
    stream.reset()
    np.testing.assert_array_equal(stream.feed(audio[:32_000]), tagger.stream().feed(audio[:32_000]))


def test_a_second_thread_on_a_stream_is_refused_and_the_first_continues(
        tagger: Tagger, audio: FloatArray) -> None:
    class Waiting:
        def __getattr__(self, name: str) -> Any:
            return getattr(tagger.step, name)

        def __call__(self, x: FloatArray, cache: Any) -> Any:
            inside.set()
            assert done.wait(30)
            return tagger.step(x, cache)

    inside, done, found = threading.Event(), threading.Event(), list[FloatArray]()
    stream = Stream(Waiting(), tagger.contract)
    first = threading.Thread(target=lambda: found.append(stream.feed(audio[:40_000])))
    first.start()
    assert inside.wait(30)
    for use in (lambda: stream.feed(audio[:10]), stream.flush, stream.reset):
        with pytest.raises(UsageError, match=r"another thread is using this stream.* one thread per stream"):
            use()
    done.set()
    first.join()
    np.testing.assert_array_equal(found[0], tagger.stream().feed(audio[:32_000]))
    assert stream.waiting == 8_000


def test_bundles_loaded_by_concurrent_threads_give_the_same_scores(
        random_vit: Path, audio: FloatArray) -> None:
    with ThreadPoolExecutor(4) as pool:
        found = list(pool.map(lambda _: load(random_vit).stream().feed(audio[:64_000]), range(8)))
    for scores in found:
        np.testing.assert_array_equal(scores, found[0])


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("amplitude", [9e-12, 1e-20, 1e-30, 1e-42])
def test_samples_that_are_too_quiet_count_as_silence(
        amplitude: float, dtype: type[np.floating[Any]], tagger: Tagger, audio: FloatArray) -> None:
    sound = (amplitude * audio[:32_000] / np.abs(audio[:32_000]).max()).astype(dtype)
    given = sound.copy()
    step = Listening(tagger.step)
    scores = Stream(step, tagger.contract).feed(sound)
    assert not step.heard[0].any()
    np.testing.assert_array_equal(sound, given)  # the caller's samples are unchanged
    np.testing.assert_array_equal(scores, tagger.stream().feed(np.zeros(32_000)))


TIMES, NOISE = np.arange(32_000), np.random.default_rng(0).standard_normal(32_000)
QUIET: dict[str, NDArray[np.float64]] = {
    "noise below all hearing": 1e-20 * NOISE,
    "a sound that dies away": np.sin(0.3 * TIMES) * np.exp(-TIMES / 400),
    "a tone at the least amplitude": 2e-11 * np.sin(0.01 * TIMES),
    "noise beside a loud sound": np.where(TIMES < 16_000, 0.1, 1e-22) * NOISE,
}


@pytest.mark.parametrize("sound", QUIET)
def test_no_audio_causes_subnormal_numbers_in_the_front_end(sound: str, tagger: Tagger) -> None:
    import onnx
    import onnxruntime

    step = Listening(tagger.step)
    Stream(step, tagger.contract).feed(QUIET[sound])
    model = onnx.load(tagger.bundle.graph)
    names = [node.output[0] for node in model.graph.node if node.name.startswith("mel/")]
    kept = onnx.utils.Extractor(model).extract_model(["audio"], names)
    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    session = onnxruntime.InferenceSession(kept.SerializeToString(), options,
                                           providers=["CPUExecutionProvider"])
    found = session.run(None, {"audio": step.heard[0]})
    values = np.abs(np.concatenate([array.ravel() for array in found if array.dtype == np.float32]))
    assert ((values > 0) & (values < np.finfo(np.float32).tiny)).mean() < 1e-3


def test_the_public_names_work_as_in_the_docstring(tagger: Tagger, audio: FloatArray) -> None:
    loaded = satexport.load(tagger.bundle.path)
    scores = loaded.stream().feed(audio[:32_000])
    best = loaded.top(scores[0], 3)
    assert [score for _, score in best] == sorted(scores[0].tolist(), reverse=True)[:3]
    assert best[0][0] == loaded.labels[int(scores[0].argmax())]
    with pytest.raises(AttributeError):
        satexport.nothing  # noqa: B018
