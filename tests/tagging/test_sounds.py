"""Chunks of a sound: their times, levels and scores, however its blocks are split."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from satexport.errors import AudioError, RunError
from satexport.step import FloatArray
from satexport.tagging.sounds import Chunk, score_blocks
from satexport.tagging.tagger import load

RATE, HOP = 16_000, 32_000  # Hz, samples


@pytest.mark.parametrize("size", [1_000, 31_999, 32_000, 50_000, 200_000])
def test_times_levels_and_scores_do_not_depend_on_the_blocks(
        tiny: Path, audio: FloatArray, size: int) -> None:
    sound = audio[:5 * RATE]
    tagger = load(tiny)
    chunks = list(score_blocks(tagger, np.split(sound, range(size, len(sound), size)), "a.wav"))
    assert [(chunk.start, chunk.end, chunk.window_start) for chunk in chunks] == [
        (0, 2, 0), (2, 4, 2), (4, 5, 4)]
    parts = np.split(sound.astype(np.float64), [HOP, 2 * HOP])
    np.testing.assert_allclose([chunk.power for chunk in chunks], [np.square(part).mean() for part in parts])
    stream = tagger.stream()
    expected = np.concatenate([stream.feed(sound), stream.flush()])
    np.testing.assert_array_equal([chunk.outputs.scores for chunk in chunks], expected)


def test_what_came_before_a_device_failed_is_scored(tiny: Path, audio: FloatArray) -> None:
    def blocks() -> Iterator[FloatArray]:
        yield audio[:3 * RATE]
        raise RunError("gone")

    chunks: list[Chunk] = []
    with pytest.raises(RunError, match="gone"):
        chunks.extend(score_blocks(load(tiny), blocks(), "microphone"))
    assert [chunk.end for chunk in chunks] == [2, 3]


def test_a_block_that_cannot_be_scored_is_an_error_with_the_name(tiny: Path) -> None:
    with pytest.raises(AudioError, match=r"a\.wav: "):
        list(score_blocks(load(tiny), [np.full(9, np.nan, np.float32)], "a.wav"))
