"""Parity: which gates pass, fail or are skipped, and the figures."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from satexport.audio.datasets import load_set
from satexport.bundle.gates import verdict
from satexport.models.checkpoint import load_checkpoint
from satexport.models.families import make_reference, named_variant
from satexport.models.family import Reference
from satexport.parity.differences import compare, compute_drift
from satexport.parity.golden import run_golden
from satexport.parity.protocols import compare_on_set, compare_on_stream, find_gate_set, run_parity
from satexport.parity.pytorch import PyTorch, load_pytorch, reference_streams
from satexport.step import FloatArray, Outputs
from satexport.tagging.stream import clip_chunks
from satexport.tagging.tagger import Tagger, load


@pytest.fixture(scope="module")
def small(tiny: Path) -> Tagger:
    return load(tiny)


@pytest.fixture(scope="module")
def reference(small: Tagger) -> Reference:
    return make_reference(load_checkpoint("random", named_variant(small.bundle.contract.variant)))


@pytest.mark.long
def test_the_demo_keeps_its_map_on_the_synthetic_set(tagger: Tagger) -> None:
    result = run_parity(tagger, minutes=1)
    assert [gate.status for gate in result.gates] == ["passed"] * 3
    scored = result.labelled_set
    assert scored
    assert scored.pytorch_map >= 0.90  # a trained model
    assert round(scored.bundle_map, 3) == round(scored.pytorch_map, 3)
    assert result.differences["1 min of stream"].chunks == 30


@pytest.mark.parametrize("data", ["few_real", pytest.param("real", marks=pytest.mark.long)])
def test_the_demo_keeps_its_map_on_real_clips(
        request: pytest.FixtureRequest, tagger: Tagger, data: str) -> None:
    gate_set = find_gate_set(tagger.bundle, str(request.getfixturevalue(data)), [4])
    result = run_parity(tagger, gate_set=gate_set, minutes=0.2)
    assert verdict(result.gates) == "passed"
    scored = result.labelled_set
    assert scored
    assert scored.clips == {"few_real": 20, "real": 80}[data]
    assert scored.pytorch_map >= 0.90
    assert scored.clip_protocol_map != scored.pytorch_map
    assert round(scored.bundle_map, 3) == round(scored.pytorch_map, 3)
    assert scored.differences.top1_agreement == 1


def test_a_clip_is_streamed_from_silence_with_its_last_chunk_padded(
        small: Tagger, reference: Reference, audio: FloatArray) -> None:
    stream = reference_streams(reference, small.contract)
    stream.feed(audio[None, :50_000])  # a history that the next clip must not see
    (found,) = clip_chunks(stream, [audio[:80_000]])
    padded = np.concatenate((audio[:80_000], np.zeros(16_000, np.float32))).reshape(3, 1, -1)
    cache = reference.initial_cache(1)
    for row, chunk in zip(found, padded, strict=True):
        expected, cache = reference(chunk, cache)
        np.testing.assert_array_equal(row[None], expected.scores)


def test_clips_scored_together_score_as_each_does_alone(
        small: Tagger, reference: Reference, audio: FloatArray) -> None:
    clips = [audio[:80_000], audio[100_000:120_000], audio[200_000:264_000]]
    together = clip_chunks(reference_streams(reference, small.contract, 4), clips)
    alone = reference_streams(reference, small.contract)
    assert [len(found) for found in together] == [3, 1, 2]
    for found, clip in zip(together, clips, strict=True):
        np.testing.assert_allclose(found, clip_chunks(alone, [clip])[0], atol=1e-5)


def test_over_a_set_and_a_stream_the_reference_hears_the_windows_of_the_bundle(
        window_lanes: Path, few_clips: Path) -> None:
    tagger = load(window_lanes)
    reference = make_reference(load_checkpoint("random", named_variant(tagger.contract.variant)))
    labelled = load_set(few_clips, tagger.labels)
    pytorch = PyTorch(reference, tagger.contract)
    scored = compare_on_set(pytorch, tagger, labelled)
    assert (scored.clips, scored.differences.chunks) == (28, 28 * 4)  # a window for each second of 4 s
    assert scored.differences.largest < 1e-4
    assert scored.bundle_map == pytest.approx(scored.pytorch_map, abs=1e-3)
    streamed = compare_on_stream(pytorch, tagger, 1)
    assert streamed.differences.chunks == 60
    assert streamed.differences.largest < 1e-4
    assert streamed.drift
    assert streamed.drift.chunks == 11  # of 20 in each stream; 9 still hear other sounds


def test_a_clip_shorter_than_a_patch_is_scored(reference: Reference, audio: FloatArray) -> None:
    for samples in (1, 100, 2_399, 2_400):
        scores = reference.clip_scores(audio[None, :samples])
        assert scores is not None
        assert np.isfinite(scores).all()


class Shifted:
    """A step whose scores have a constant error."""

    def __init__(self, step: Reference, error: float) -> None:
        self._step, self._error = step, error

    def initial_cache(self, streams: int) -> object:
        return self._step.initial_cache(streams)

    def __call__(self, x: FloatArray, cache: object) -> tuple[Outputs, object]:
        outputs, new = self._step(x, cache)
        return Outputs(outputs.scores + np.float32(self._error)), new

    def silence(self, cache: object, stream: int) -> object:
        return self._step.silence(cache, stream)

    def executed(self) -> dict[str, dict[str, int]]:
        return {}

    def close(self) -> None:
        self._step.close()


def test_a_wrong_step_fails_its_gate_and_says_by_how_much(small: Tagger, reference: Reference) -> None:
    broken = Tagger(small.bundle, Shifted(reference, 2e-4))
    result = run_golden(broken)
    assert [gate.status for gate in result.gates] == ["failed"]
    assert result.differences["golden chunks"].largest == pytest.approx(2e-4, rel=0.1)


def test_a_step_that_gives_nan_fails(small: Tagger, reference: Reference) -> None:
    result = run_golden(Tagger(small.bundle, Shifted(reference, float("nan"))))
    assert [gate.status for gate in result.gates] == ["failed"]


def test_random_weights_claim_no_map(random_vit: Path) -> None:
    result = run_parity(load(random_vit), minutes=0.2)
    assert [gate.status for gate in result.gates] == ["passed", "skipped"]
    assert "random weights" in result.gates[1].note
    assert result.labelled_set is None
    assert verdict(result.gates) == "skipped"


def test_the_papers_clip_protocol_is_reported_next_to_the_streamed_one(
        tagger: Tagger, few_clips: Path) -> None:
    result = compare_on_set(load_pytorch(tagger.bundle), tagger, load_set(str(few_clips), tagger.labels))
    assert 0.8 < (result.clip_protocol_map or 0) <= 1
    assert result.clip_protocol.startswith("one spectrogram per clip")


def test_differences_are_per_chunk() -> None:
    reference = np.zeros((100, 2), np.float32)
    reference[:, 0] = 0.5
    candidate = reference.copy()
    candidate[:, 0] += np.linspace(0, 0.02, 100, dtype=np.float32)
    candidate[50] = (0.1, 0.9)
    found = compare(reference, candidate)
    assert found.chunks == 100
    assert found.largest == pytest.approx(0.9, abs=1e-6)
    assert found.top1_agreement == pytest.approx(0.99)
    steady = compare(reference, reference + np.float32(0.01))
    assert steady.mean == pytest.approx(0.01, rel=1e-4)


def test_drift_is_how_much_more_the_same_sounds_differ_at_the_end() -> None:
    random = np.random.default_rng(0)
    sounds = random.uniform(1e-3, 3e-3, 100)  # they vary from chunk to chunk, which is no drift
    curve = np.concatenate((sounds, sounds[:30]))
    steady = compute_drift(curve, 100, 12)
    assert steady
    assert (steady.chunks, steady.drift) == (18, 0)
    assert steady.first == pytest.approx(sounds[12:30].mean())
    growing = compute_drift(curve + np.linspace(0, 1e-3, 130), 100, 12)
    assert growing
    assert growing.slope == pytest.approx(1e-3 / 129)
    assert growing.drift == pytest.approx(1e-3 / 129 * 100 / (sounds.mean() + 1e-3 / 129 * 99 / 2))
    other_history = np.concatenate((sounds, [0.5] * 12, sounds[12:30]))
    assert compute_drift(other_history, 100, 12) == steady
    assert compute_drift(curve[:112], 100, 12) is None


def test_a_bundle_whose_scores_move_over_time_has_a_drift(tiny: Path, reference: Reference) -> None:
    tagger = load(tiny)
    step = tagger.step

    class Wearing:
        """A step whose scores move a little more at each step."""

        steps = 0

        def initial_cache(self, streams: int) -> Any:
            return step.initial_cache(streams)

        def silence(self, cache: Any, stream: int) -> Any:
            return step.silence(cache, stream)

        def executed(self) -> dict[str, dict[str, int]]:
            return {}

        def close(self) -> None:
            step.close()

        def __call__(self, x: FloatArray, cache: Any) -> tuple[Outputs, Any]:
            self.steps += 1
            outputs, cache = step(x, cache)
            return Outputs(outputs.scores + np.float32(1e-5 * self.steps)), cache

    pytorch = PyTorch(reference, tagger.contract)
    steady = compare_on_stream(pytorch, tagger, 1).drift
    worn = compare_on_stream(pytorch, Tagger(tagger.bundle, Wearing()), 1).drift
    assert steady
    assert worn
    assert abs(steady.drift) < 0.1
    assert worn.drift == pytest.approx(2, rel=0.1)
