"""The stream on the demo bundle: any block size, reset, several at once, bad audio."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import satexport
from satexport.backends import FloatArray
from satexport.errors import AudioError
from satexport.stream import Stream, Tagger


@pytest.fixture
def stream(tagger: Tagger) -> Stream:
    return tagger.stream()


@settings(max_examples=10, deadline=None)
@given(cuts=st.lists(st.integers(0, 160_000), max_size=12))
def test_blocks_of_any_size_give_the_scores_of_the_whole(
        tagger: Tagger, audio: FloatArray, cuts: list[int]) -> None:
    whole = tagger.stream().feed(audio[:160_000])
    assert whole.shape == (5, 527)
    stream = tagger.stream()
    blocks = np.split(audio[:160_000], sorted(cuts))
    np.testing.assert_array_equal(np.concatenate([stream.feed(b) for b in blocks]), whole)


def test_reset_gives_the_first_answer_again(stream: Stream, audio: FloatArray) -> None:
    first = stream.feed(audio[:70_000])
    assert stream.waiting == 6_000
    assert not np.array_equal(stream.feed(audio[:64_000])[0], first[0])  # the cache has a history
    stream.reset()
    assert stream.waiting == 0
    np.testing.assert_array_equal(stream.feed(audio[:64_000]), first)


def test_streams_at_once_each_have_their_own_cache(tagger: Tagger, audio: FloatArray) -> None:
    chunks = audio[:320_000].reshape(2, 5, 32_000)
    alone = [tagger.stream().feed(part.reshape(-1)) for part in chunks]
    streams = [tagger.stream(), tagger.stream()]
    turns = [[s.feed(part[i])[0] for s, part in zip(streams, chunks, strict=True)] for i in range(5)]
    for number in range(2):
        np.testing.assert_array_equal([turn[number] for turn in turns], alone[number])


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
def test_bad_samples_raise_and_leave_the_stream_as_it_was(
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


def test_int16_and_double_samples_are_the_same_sound(tagger: Tagger, audio: FloatArray) -> None:
    pcm = np.round(audio[:64_000] * 32_767).astype(np.int16)
    floats = (pcm / 32_768).astype(np.float32)
    expected = tagger.stream().feed(floats)
    np.testing.assert_array_equal(tagger.stream().feed(pcm), expected)
    np.testing.assert_array_equal(tagger.stream().feed(floats.astype(np.float64)), expected)


def test_the_public_names_are_what_the_docstring_shows(tagger: Tagger, audio: FloatArray) -> None:
    loaded = satexport.load(tagger.bundle.path)
    scores = loaded.stream().feed(audio[:32_000])
    best = loaded.top(scores[0], 3)
    assert [score for _, score in best] == sorted(scores[0].tolist(), reverse=True)[:3]
    assert best[0][0] == loaded.labels[int(scores[0].argmax())]
    with pytest.raises(AttributeError):
        satexport.nothing  # noqa: B018
