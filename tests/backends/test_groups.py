"""Many streams of one ONNX Runtime step run in groups, which nobody notices."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from satexport.backends.onnxruntime.step import GROUP
from satexport.step import FloatArray
from satexport.tagging.tagger import load

COUNT = GROUP + 3


def test_each_stream_of_several_groups_has_its_own_scores_and_reset(tiny_lanes: Path,
                                                                    audio: FloatArray) -> None:
    tagger = load(tiny_lanes)
    hop = tagger.contract.hop_samples
    chunks = np.stack([np.roll(audio, -1000 * number)[:3 * hop] for number in range(COUNT)])
    streams = tagger.streams(COUNT)
    scores = streams.feed(chunks[:, :2 * hop])
    streams.reset(GROUP + 1)
    scores = np.concatenate((scores, streams.feed(chunks[:, 2 * hop:])))
    for number in range(COUNT):
        alone = tagger.stream()
        expected = alone.feed(chunks[number, :2 * hop])
        if number == GROUP + 1:
            alone.reset()
        expected = np.concatenate((expected, alone.feed(chunks[number, 2 * hop:])))
        np.testing.assert_allclose(scores[:, number], expected, atol=2e-6)


def test_only_a_graph_for_any_number_of_streams_has_groups(tiny_lanes: Path, tiny_three: Path) -> None:
    assert [len(group.x) for group in load(tiny_lanes).step.initial_cache(2 * GROUP + 1)] == [GROUP, GROUP, 1]
    assert [len(group.x) for group in load(tiny_three).step.initial_cache(3)] == [3]
