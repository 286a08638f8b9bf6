"""PyTorch runs in batches and once for all graphs; its scores are those of one chunk after the other."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from satexport.audio.clips import clip_hash
from satexport.audio.datasets import load_set
from satexport.bundle.contract import Contract
from satexport.models.checkpoint import load_checkpoint
from satexport.models.families import make_reference, named_variant
from satexport.models.family import Reference
from satexport.parity.protocols import GateSet, run_parity
from satexport.parity.pytorch import BATCH, PyTorch, reference_streams
from satexport.step import FloatArray, Outputs
from satexport.tagging.stream import clip_outputs
from satexport.tagging.tagger import Tagger, load


class Counted:
    """A reference that counts its steps and the clips that it scores."""

    def __init__(self, reference: Reference) -> None:
        self._reference, self.steps, self.clips = reference, 0, 0
        self.clip_protocol = reference.clip_protocol

    def __getattr__(self, name: str) -> Any:
        return getattr(self._reference, name)

    def __call__(self, x: FloatArray, cache: Any) -> tuple[Outputs, Any]:
        self.steps += 1
        return self._reference(x, cache)

    def clip_scores(self, audio: FloatArray) -> FloatArray | None:
        self.clips += len(audio)
        return self._reference.clip_scores(audio)


def counted(contract: Contract) -> Any:
    return Counted(make_reference(load_checkpoint("random", named_variant(contract.variant))))


def one_by_one(reference: Reference, contract: Contract, chunks: FloatArray) -> FloatArray:
    return reference_streams(reference, contract).feed_all(chunks.reshape(1, -1)).scores[:, 0]


@pytest.mark.parametrize(("bundle", "steps"), [
    ("tiny", 3 + 14),           # 8 parts of 14 chunks; a step remembers the 3 before it
    ("window_lanes", 9 + 53)])  # 2 parts of 53; a window of 10 s every second
def test_a_stream_in_parts_has_the_scores_of_the_whole_stream(
        request: pytest.FixtureRequest, audio: FloatArray, bundle: str, steps: int) -> None:
    contract = load(request.getfixturevalue(bundle)).contract
    reference = counted(contract)
    chunks = np.resize(audio, (2, 106 if bundle == "window_lanes" else 107, contract.hop_samples))
    chunks[1] = chunks[1][::-1]
    done: list[int] = []
    found = PyTorch(reference, contract).of_streams(chunks, done.append)
    assert reference.steps == 2 * steps
    assert sum(done) >= 2 * chunks.shape[1]
    assert found.scores.shape[:2] == (chunks.shape[1], 2)
    for stream in range(2):
        np.testing.assert_allclose(found.scores[:, stream], one_by_one(reference, contract, chunks[stream]),
                                   rtol=0, atol=1e-5)


def test_clips_of_different_lengths_score_in_their_order_as_each_does_alone(
        tiny: Path, audio: FloatArray) -> None:
    contract = load(tiny).contract
    reference = counted(contract)
    lengths = [64_000, 50_000, 64_000, 2_000, 50_000, *[64_000] * BATCH]
    clips = [audio[500 * i:500 * i + length] for i, length in enumerate(lengths)]
    pytorch = PyTorch(reference, contract)
    known = pytorch.of_clips(clips, [clip_hash(clip) for clip in clips])
    assert reference.steps == 2 * 2 + 2 + 1  # chunks of 8 and of 2 long clips, of 2 shorter ones and of one
    assert reference.clips == len(clips)
    assert len(known.streamed) == len(known.by_paper) == len(clips)
    for clip, streamed, by_paper in zip(clips, known.streamed, known.by_paper, strict=True):
        (alone,) = clip_outputs(reference_streams(reference, contract), [clip])
        np.testing.assert_allclose(streamed.scores, alone.scores, rtol=0, atol=1e-5)
        np.testing.assert_allclose(by_paper, reference.clip_scores(clip[None])[0], rtol=0, atol=1e-5)


def test_several_graphs_are_compared_with_pytorch_for_the_work_of_one(
        tagger: Tagger, few_clips: Path) -> None:
    reference: Any = Counted(make_reference(load_checkpoint("demo", named_variant(tagger.contract.variant))))
    pytorch = PyTorch(reference, tagger.contract)
    gate_set = GateSet(load_set(few_clips, tagger.labels))

    def figures() -> Sequence[object]:
        result = run_parity(tagger, minutes=0.2, gate_set=gate_set, pytorch=pytorch)
        return result.differences, result.labelled_set, result.curve

    first = figures()
    work = reference.steps, reference.clips
    assert work[0] > 0
    assert work[1] == 28
    assert figures() == first
    assert (reference.steps, reference.clips) == work
