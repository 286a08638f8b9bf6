"""The golden chunks expose a step that forgets, remembers too much or mixes up its streams."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from satexport.bundle.contract import Contract
from satexport.models.families import named_variant
from satexport.models.sat.variants import VARIANTS, Variant
from satexport.parity.golden import SOME_STREAMS, golden_scores, judge_golden, proof_streams
from satexport.pipeline.export import MIN_GOLDEN_CHUNKS, golden_audio
from satexport.step import FloatArray, Outputs, Step
from satexport.tagging.stream import StreamBatch
from satexport.tagging.tagger import Tagger, load
from satexport.tagging.window import Windows

CORRECT = 1e-5  # of any score, from PyTorch


@pytest.fixture(scope="module")
def dynamic(tiny_lanes: Path) -> Tagger:
    """A model for any number of streams."""
    return load(tiny_lanes)


def largest_difference(step: Step, tagger: Tagger) -> float:
    """Return the largest difference of any score of any stream from PyTorch's over the golden chunks."""
    audio, (expected, _) = tagger.bundle.golden()
    found = golden_scores(proof_streams(step, tagger.contract), audio)
    assert found.shape == (SOME_STREAMS, *expected.shape)
    return float(np.abs(found - expected).max())


def test_a_correct_step_matches_pytorch_in_every_stream(dynamic: Tagger) -> None:
    assert largest_difference(dynamic.step, dynamic) < CORRECT


class Violation:
    """A correct step; each subclass does one thing wrong."""

    def __init__(self, step: Step) -> None:
        self._step = step

    def initial_cache(self, streams: int) -> Any:
        return self._step.initial_cache(streams)

    def __call__(self, x: FloatArray, cache: Any) -> tuple[Outputs, Any]:
        return self._step(x, cache)

    def silence(self, cache: Any, stream: int) -> Any:
        return self._step.silence(cache, stream)


class Averages(Violation):
    """Every stream remembers the average of all streams."""

    def __call__(self, x: FloatArray, cache: Any) -> tuple[Outputs, Any]:
        outputs, cache = self._step(x, cache)
        for array in cache[0].now:
            array[:] = array.mean(0)
        return outputs, cache


class Leaks(Violation):
    """A hundredth of each stream's cache is added to the next stream's."""

    def __call__(self, x: FloatArray, cache: Any) -> tuple[Outputs, Any]:
        outputs, cache = self._step(x, cache)
        for array in cache[0].now:
            array[:] += 0.01 * np.roll(array, 1, axis=0)
        return outputs, cache


class SwapsScores(Violation):
    """Two streams get each other's scores."""

    def __call__(self, x: FloatArray, cache: Any) -> tuple[Outputs, Any]:
        outputs, cache = self._step(x, cache)
        return Outputs(outputs.scores[[0, 2, 1]]), cache


class SwapsCaches(Violation):
    """Two streams get each other's cache."""

    def __call__(self, x: FloatArray, cache: Any) -> tuple[Outputs, Any]:
        outputs, cache = self._step(x, cache)
        for array in cache[0].now:
            array[:] = array[[1, 0, 2]]
        return outputs, cache


class HearsTheFirst(Violation):
    """Every stream gets the first stream's chunk."""

    def __call__(self, x: FloatArray, cache: Any) -> tuple[Outputs, Any]:
        return self._step(np.repeat(x[:1], len(x), 0), cache)


class NeverSilent(Violation):
    """A reset stream still remembers."""

    def silence(self, cache: Any, stream: int) -> Any:
        return cache


class SilencesAll(Violation):
    """A reset of one stream resets all."""

    def silence(self, cache: Any, stream: int) -> Any:
        for lane in range(SOME_STREAMS):
            cache = self._step.silence(cache, lane)
        return cache


class SilencesTheFirst(Violation):
    """A reset always resets the first stream."""

    def silence(self, cache: Any, stream: int) -> Any:
        return self._step.silence(cache, 0)


class ForgetsToSwap(Violation):
    """The written cache is never read."""

    def __call__(self, x: FloatArray, cache: Any) -> tuple[Outputs, Any]:
        return self._step(x, cache)[0], cache


class StartsFromZeros(Violation):
    """The initial cache is zeros, a wrong but plausible guess."""

    def initial_cache(self, streams: int) -> Any:
        cache = self._step.initial_cache(streams)
        for array in cache[0].now:
            array[:] = 0
        return cache


class KeepsOneLayer(Violation):
    """The last layer's cache is one chunk old."""

    def __call__(self, x: FloatArray, cache: Any) -> tuple[Outputs, Any]:
        before = cache[0].now[-1].copy()
        outputs, cache = self._step(x, cache)
        cache[0].now[-1][:] = before
        return outputs, cache


@pytest.mark.parametrize("fault", [
    Averages, Leaks, SwapsScores, SwapsCaches, HearsTheFirst, NeverSilent, SilencesAll, SilencesTheFirst,
    ForgetsToSwap, StartsFromZeros, KeepsOneLayer], ids=lambda fault: fault.__name__)
def test_the_golden_chunks_expose_a_faulty_step(fault: Callable[[Step], Step], dynamic: Tagger) -> None:
    limit = dynamic.bundle.target.gates.max_score_difference
    assert largest_difference(fault(dynamic.step), dynamic) > 10 * limit


@pytest.fixture(scope="module")
def window(window_lanes: Path) -> Tagger:
    """A model over the last 10 s every second, for any number of streams."""
    return load(window_lanes)


def test_a_correct_window_matches_pytorch_in_every_stream(window: Tagger) -> None:
    audio, _ = window.bundle.golden()
    assert audio.shape == (10, 16_000)
    assert largest_difference(window.step, window) < CORRECT


class NoEarlierAudio(Windows):
    """The earlier audio is always zeros."""

    def advance(self, windows: FloatArray) -> None:
        pass


class NewestFirst(Windows):
    """The earlier audio comes after the chunk."""

    def end_with(self, chunk: FloatArray) -> FloatArray:
        return np.concatenate((chunk, self._earlier), axis=1)


class NeverForgets(Windows):
    """The earlier audio of a reset stream stays."""

    def reset(self, stream: int) -> None:
        pass


class ForgetsAll(Windows):
    """A reset of one stream resets all."""

    def reset(self, stream: int) -> None:
        self._earlier = np.zeros_like(self._earlier)


class MixesStreams(Windows):
    """Two streams get each other's earlier audio."""

    def advance(self, windows: FloatArray) -> None:
        super().advance(windows[[1, 0, 2]])


@pytest.mark.parametrize("fault", [NoEarlierAudio, NewestFirst, NeverForgets, ForgetsAll, MixesStreams],
                         ids=lambda fault: fault.__name__)
def test_the_golden_chunks_expose_a_faulty_window(
        fault: type[Windows], window: Tagger, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("satexport.tagging.stream.Windows", fault)
    assert largest_difference(window.step, window) > 10 * window.bundle.target.gates.max_score_difference


def test_the_golden_chunks_are_judged_by_the_limit_of_the_family(dynamic: Tagger) -> None:
    gates = replace(dynamic.bundle.target.gates, max_score_difference_of={dynamic.contract.family: 0.5})
    bundle = replace(dynamic.bundle, target=replace(dynamic.bundle.target, gates=gates))
    _, (expected, _) = bundle.golden()
    (gate,) = judge_golden(bundle, Outputs(expected[None] + 0.4)).gates
    assert (gate.status, gate.limit) == ("passed", 0.5)
    assert judge_golden(dynamic.bundle, Outputs(expected[None] + 0.4)).gates[0].status == "failed"


@pytest.mark.parametrize("streams", [1, 2, 5])
def test_each_stream_gets_the_golden_scores_whatever_the_other_streams_get(
        streams: int, dynamic: Tagger) -> None:
    audio, (expected, _) = dynamic.bundle.golden()
    together = StreamBatch(dynamic.step, dynamic.contract, streams)
    together.feed(np.random.default_rng(0).normal(0, 0.1, (streams, 40_000)))  # golden_scores resets first
    found = golden_scores(together, audio)
    assert found.shape == (streams, *expected.shape)
    assert np.abs(found - expected).max() < CORRECT


def test_a_graph_for_a_fixed_number_of_streams_is_proven_with_that_number(
        dynamic: Tagger, tagger: Tagger) -> None:
    assert len(proof_streams(tagger.step, tagger.contract)) == 1
    assert len(proof_streams(dynamic.step, dynamic.contract)) == SOME_STREAMS > 1


@pytest.mark.parametrize("variant", VARIANTS.values(), ids=lambda variant: variant.name)
def test_the_golden_chunks_are_more_than_the_model_remembers_and_fit_into_16_bits(
        variant: Variant) -> None:
    audio = golden_audio(variant)
    assert audio.shape == (max(MIN_GOLDEN_CHUNKS, variant.memory_steps + 1), variant.hop_samples)
    assert 0.1 < np.abs(audio).max() <= 1
    assert np.array_equal(audio * 32_768, np.round(audio * 32_768))
    assert not np.array_equal(audio[0], audio[1])


def test_the_bundle_contains_the_golden_chunks_it_was_proven_with(dynamic: Tagger) -> None:
    contract: Contract = dynamic.contract
    audio, (scores, _) = dynamic.bundle.golden()
    np.testing.assert_array_equal(audio, golden_audio(named_variant(dynamic.bundle.contract.variant)))
    assert scores.shape == (contract.memory_steps + 1, contract.classes)
