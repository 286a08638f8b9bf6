"""Streams that return embeddings, and the file that `satexport run --embeddings` writes."""

from __future__ import annotations

from pathlib import Path
from typing import Any, cast

import numpy as np
import pytest

from satexport.bundle.contract import GraphOptions
from satexport.errors import RunError, UsageError
from satexport.models.checkpoint import find_weights
from satexport.models.families import make_reference
from satexport.parity.pytorch import reference_streams
from satexport.step import FloatArray, Step
from satexport.tagging.stream import Stream
from satexport.tagging.tagger import Tagger, load
from tests.tiny import SAT, export

BOTH = ("scores", "embedding")
HOP = 32_000
SAME = 1e-4  # relative difference


@pytest.fixture(scope="module")
def embedder(tiny_embedding: Path) -> Tagger:
    return load(tiny_embedding)


def pytorch(tagger: Tagger, audio: FloatArray) -> tuple[FloatArray, ...]:
    """Return PyTorch's scores and embeddings of a stream [samples]."""
    reference = make_reference(find_weights(tagger.bundle), tagger.contract.options.embedding)
    return tuple(array[:, 0] for array in reference_streams(reference, tagger.contract).feed(
        audio[None], outputs=BOTH))


def relative(found: FloatArray, expected: FloatArray) -> float:
    """Return the largest relative difference of any embedding."""
    return float((np.linalg.norm(found - expected, axis=-1) / np.linalg.norm(expected, axis=-1)).max())


def test_a_stream_returns_what_is_asked_for_in_that_order(embedder: Tagger, audio: FloatArray) -> None:
    sound = audio[:3 * HOP]
    expected = pytorch(embedder, sound)
    scores, embeddings = embedder.stream().feed(sound, outputs=BOTH)
    assert (scores.shape, embeddings.shape, embeddings.dtype.name) == ((3, 527), (3, 48), "float32")
    np.testing.assert_allclose(scores, expected[0], atol=1e-5)
    assert relative(embeddings, expected[1]) < SAME
    assert relative(embeddings[1:], expected[1][:-1]) > 0.01  # they differ from chunk to chunk
    turned = embedder.stream().feed(sound, outputs=BOTH[::-1])
    np.testing.assert_array_equal(turned[0], embeddings)
    (alone,) = embedder.stream().feed(sound, outputs=cast(Any, (name for name in ["embedding"])))
    np.testing.assert_array_equal(alone, embeddings)
    np.testing.assert_array_equal(embedder.stream().feed(sound), scores)


def test_blocks_and_a_flush_give_the_embeddings_of_the_whole(embedder: Tagger, audio: FloatArray) -> None:
    padded = np.concatenate((audio[:2 * HOP + 100], np.zeros(HOP - 100, np.float32)))
    _, whole = embedder.stream().feed(padded, outputs=BOTH)
    stream = embedder.stream()
    parts = [stream.feed(block, outputs=BOTH)[1] for block in np.split(audio[:2 * HOP + 100], [10, 40_000])]
    assert [part.shape for part in parts] == [(0, 48), (1, 48), (1, 48)]
    np.testing.assert_array_equal(np.concatenate((*parts, stream.flush(outputs=BOTH)[1])), whole)


class Failing:
    """A step whose second call fails."""

    def __init__(self, step: Step) -> None:
        self._step, self.calls = step, 0

    def __getattr__(self, name: str) -> Any:
        return getattr(self._step, name)

    def __call__(self, x: FloatArray, cache: Any) -> Any:
        self.calls += 1
        if self.calls == 2:
            raise RunError("a step failed")
        return self._step(x, cache)


@pytest.mark.parametrize("outputs", [None, BOTH])
def test_no_embedding_is_lost_if_a_step_fails(
        outputs: tuple[str, ...] | None, embedder: Tagger, audio: FloatArray) -> None:
    expected = embedder.stream().feed(audio[:3 * HOP], outputs=BOTH)
    stream = Stream(Failing(embedder.step), embedder.contract)
    with pytest.raises(RunError):
        stream.feed(audio[:3 * HOP], outputs=outputs)  # its first chunk was scored
    for found, whole in zip(stream.feed([], outputs=BOTH), expected, strict=True):
        np.testing.assert_array_equal(found, whole)


def test_an_output_that_does_not_exist_leaves_the_stream_as_it_was(
        embedder: Tagger, tiny: Path, audio: FloatArray) -> None:
    stream = load(tiny).stream()
    wrong: list[tuple[Any, str]] = [
        (BOTH, "this bundle has no embedding: export it with --embedding"),
        (("logits",), "there is no output 'logits'; expected scores or embedding"),
        ("embedding", "expected a tuple of names"), (5, "expected a tuple of names")]
    for names, words in wrong:
        with pytest.raises(UsageError, match=words):
            stream.feed(audio[:HOP + 100], outputs=names)
        with pytest.raises(UsageError, match=words):
            stream.flush(outputs=names)
        assert stream.waiting == 0
    assert embedder.stream().feed([], outputs=BOTH)[1].shape == (0, 48)


def test_each_of_several_streams_gets_its_own_embeddings(
        tmp_path: Path, embedder: Tagger, audio: FloatArray) -> None:
    tagger = load(export(tmp_path, SAT, 2, "random", GraphOptions(streams=3, embedding="mean"),
                         use_onnxsim=False))
    sounds = audio[:6 * HOP].reshape(3, -1)
    _, found = tagger.streams().feed(sounds, outputs=BOTH)
    assert found.shape == (2, 3, 48)
    for number, sound in enumerate(sounds):
        assert relative(found[:, number], embedder.stream().feed(sound, outputs=BOTH)[1]) < SAME
    assert relative(tagger.stream().feed(sounds[0], outputs=BOTH)[1], found[:, 0]) < SAME
