"""Streams whose steps take more audio than is new: the last 10 s every second."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from satexport.errors import RunError
from satexport.models.checkpoint import load_checkpoint
from satexport.models.families import find_variant, make_reference
from satexport.step import FloatArray, Step
from satexport.tagging.stream import Stream, StreamBatch, clip_chunks
from satexport.tagging.tagger import Tagger, load
from satexport.tagging.window import Windows
from tests.tiny import WINDOW

RATE, SECONDS = 16_000, 10  # Hz; of a window


class Listening:
    """A step that keeps the inputs themselves, and whose call number `fails` fails."""

    def __init__(self, step: Step) -> None:
        self._step, self.heard, self.fails = step, list[FloatArray](), 0

    def __getattr__(self, name: str) -> Any:
        return getattr(self._step, name)

    def __call__(self, x: FloatArray, cache: Any) -> Any:
        self.heard.append(x)
        if len(self.heard) == self.fails:
            raise RunError("a step failed")
        return self._step(x, cache)


@pytest.fixture(scope="module")
def tagger(random_window: Path) -> Tagger:
    return load(random_window)


@pytest.fixture(scope="module")
def lanes(window_lanes: Path) -> Tagger:
    """The same for any number of streams in one step."""
    return load(window_lanes)


def windows(sound: FloatArray, hop: int = 1) -> FloatArray:
    """Return the 10 s up to the end of each hop of a sound [samples], [hops, 160 000]; zeros in front, and
    behind the end of the sound."""
    steps = -(-len(sound) // (hop * RATE))
    padded = np.concatenate((np.zeros((SECONDS - hop) * RATE, np.float32), sound,
                             np.zeros(steps * hop * RATE - len(sound), np.float32)))
    return np.stack([padded[step * hop * RATE:][:SECONDS * RATE] for step in range(steps)])


def score(stream: Stream, sound: FloatArray) -> FloatArray:
    return np.concatenate((stream.feed(sound), stream.flush()))


@pytest.mark.parametrize("seconds", [0.3, 4, 12.5, 21])
def test_a_stream_scores_the_window_up_to_each_second_as_pytorch_does(
        tagger: Tagger, audio: FloatArray, seconds: float) -> None:
    sound = audio[:round(seconds * RATE)]
    reference = make_reference(load_checkpoint("random", find_variant(WINDOW, 1, SECONDS)))
    expected = np.concatenate([reference(window[None], None)[0].scores for window in windows(sound)])
    found = score(tagger.stream(), sound)
    assert found.shape == (-(-len(sound) // RATE), 527)
    np.testing.assert_allclose(found, expected, atol=1e-4)
    np.testing.assert_array_equal(clip_chunks(tagger.streams(), [sound])[0], found)


@pytest.mark.parametrize("hop", [1, 3, 7])
def test_a_step_gets_the_last_samples_whether_or_not_hops_fill_the_window(
        tagger: Tagger, audio: FloatArray, hop: int) -> None:
    step, sound = Listening(tagger.step), audio[:25 * RATE]
    stream = Stream(step, replace(tagger.contract, hop_samples=hop * RATE))
    score(stream, sound)
    np.testing.assert_array_equal(np.concatenate(step.heard), windows(sound, hop))


@settings(max_examples=10)
@given(cuts=st.lists(st.integers(0, 200_000), max_size=12))
def test_blocks_of_any_size_give_the_scores_of_the_whole(
        tagger: Tagger, audio: FloatArray, cuts: list[int]) -> None:
    sound, stream = audio[:200_000], tagger.stream()
    found = [stream.feed(block) for block in np.split(sound, sorted(cuts))]
    np.testing.assert_array_equal(np.concatenate((*found, stream.flush())), score(tagger.stream(), sound))


def test_a_stream_forgets_what_it_heard_before_the_window(tagger: Tagger, audio: FloatArray) -> None:
    sound, others = audio[:13 * RATE], (audio[20 * RATE:27 * RATE], audio[:0], audio[30 * RATE:50 * RATE])
    scores = []
    for other in others:
        stream = tagger.stream()
        stream.feed(other)
        scores.append(stream.feed(sound))
    memory = tagger.contract.memory_steps
    for step in range(13):
        equal = all(np.array_equal(found[step], scores[0][step]) for found in scores[1:])
        assert equal == (step >= memory), step
    assert memory == 9


def test_a_reset_of_one_stream_replaces_its_audio_by_silence_and_no_others(
        tagger: Tagger, lanes: Tagger, audio: FloatArray) -> None:
    sounds = audio[:3 * 15 * RATE].reshape(3, -1)
    streams, cut = lanes.streams(3), 5 * RATE + 600
    first = streams.feed(sounds[:, :cut])
    streams.reset(1)
    found = np.concatenate((first, streams.feed(sounds[:, cut:])))
    again = np.concatenate((np.zeros(600, np.float32), sounds[1, cut:]))
    expected = [score(tagger.stream(), sound) for sound in (sounds[0], again, sounds[2])]
    np.testing.assert_allclose(found[:, 0], expected[0], atol=2e-6)
    np.testing.assert_allclose(found[5:, 1], expected[1], atol=2e-6)
    np.testing.assert_allclose(found[:, 2], expected[2], atol=2e-6)


def test_a_reset_changes_no_window_that_a_step_still_holds(lanes: Tagger, audio: FloatArray) -> None:
    step = Listening(lanes.step)
    streams = StreamBatch(step, lanes.contract, 2)
    streams.feed(audio[:2 * 12 * RATE].reshape(2, -1))
    before = step.heard[-1].copy()
    streams.reset(0)
    np.testing.assert_array_equal(step.heard[-1], before)


def test_a_reset_of_all_streams_starts_from_silence(tagger: Tagger, audio: FloatArray) -> None:
    stream = tagger.stream()
    first = score(stream, audio[:3 * RATE])
    stream.reset()
    np.testing.assert_array_equal(score(stream, audio[:3 * RATE]), first)


@pytest.mark.parametrize("fails", [1, 4, 12])
def test_after_a_failed_step_the_window_is_tried_again_and_nothing_is_lost(
        tagger: Tagger, audio: FloatArray, fails: int) -> None:
    step, sound = Listening(tagger.step), audio[:15 * RATE]
    step.fails = fails
    stream = Stream(step, tagger.contract)
    with pytest.raises(RunError):
        stream.feed(sound[:14 * RATE])
    assert stream.waiting == (14 - fails + 1) * RATE
    found = stream.feed(sound[14 * RATE:])
    np.testing.assert_array_equal(found, tagger.stream().feed(sound))
    heard = np.concatenate((*step.heard[:fails - 1], *step.heard[fails:]))  # without the call that failed
    np.testing.assert_array_equal(heard, windows(sound))


def test_a_window_as_long_as_the_hop_keeps_no_audio_and_copies_none(random_vit: Path) -> None:
    contract = load(random_vit).contract
    chunk = np.ones((1, contract.hop_samples), np.float32)
    found = Windows(contract, 1)
    assert found.end_with(chunk) is chunk
    found.advance(chunk)
    assert found.end_with(chunk) is chunk
