"""The command that judges events on synthetic scenes."""

from __future__ import annotations

import numpy as np

from benchmarks import scenes
from satexport.audio.scenes import scene_clips
from satexport.tagging.tagger import Tagger


def test_a_stream_that_is_reset_at_every_chunk_hears_each_chunk_alone(tagger: Tagger) -> None:
    (clip,) = clips = scene_clips("evaluate", range(1))
    with_cache, reset = (scenes.score(tagger, clips, resets=resets)[0] for resets in (False, True))
    assert with_cache.shape == reset.shape == (30, 527)
    np.testing.assert_array_equal(with_cache[0], reset[0])
    stream = tagger.stream()
    np.testing.assert_array_equal(reset[7], stream.feed(clip.read(16_000)[7 * 32_000:8 * 32_000])[0])
    assert not np.array_equal(reset[7], with_cache[7])
    assert [len(figures) for _, figures in scenes.judge(tagger, 1)] == [4] * 4
