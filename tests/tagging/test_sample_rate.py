"""A stream takes audio at the sample rate of its model only; who states another is told."""

from __future__ import annotations

import numpy as np
import pytest

from satexport.errors import AudioError
from satexport.step import FloatArray
from satexport.tagging.tagger import Tagger


def test_another_sample_rate_is_refused_and_the_stream_stays_unchanged(
        tagger: Tagger, audio: FloatArray) -> None:
    stream = tagger.stream()
    expected = stream.feed(audio[:32_000], 16_000)
    stream.reset()
    stream.feed(audio[:10_000])
    with pytest.raises(AudioError, match="at 32000 Hz, expected 16000 Hz: resample them first"):
        stream.feed(audio[:100], 32_000)
    assert stream.waiting == 10_000
    np.testing.assert_array_equal(stream.feed(audio[10_000:32_000]), expected)


def test_streams_in_a_batch_refuse_another_sample_rate_too(tagger: Tagger) -> None:
    streams = tagger.streams()
    with pytest.raises(AudioError, match="at 8000 Hz, expected 16000 Hz"):
        streams.feed(np.zeros((1, 100), np.float32), sample_rate=8000)
    assert streams.waiting == 0
