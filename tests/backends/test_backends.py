"""What every step must do, with any runtime: PyTorch, ONNX Runtime, OpenVINO."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pytest

from satexport.bundle.contract import Contract
from satexport.bundle.folder import open_bundle
from satexport.models.checkpoint import load_checkpoint
from satexport.models.families import make_reference, named_variant
from satexport.parity.golden import golden_scores
from satexport.step import FloatArray, Step
from satexport.tagging.stream import Stream, StreamBatch
from satexport.tagging.tagger import load
from tests.backends.compiled import compiled
from tests.machine import need, on_this_cpu

STEPS = {  # name -> target, and the largest allowed score difference from PyTorch
    "PyTorch": ("", 0.0), "ONNX Runtime": ("onnx", 2e-5), "ONNX Runtime int8": ("cpu-int8", 0.05),
    "OpenVINO": ("openvino-fp32", 2e-5), "OpenVINO, explicit cache": ("openvino-fp32-explicit", 2e-5),
    "OpenVINO bf16": ("openvino-bf16", 0.02), "OpenVINO int8": ("openvino-int8", 0.05),
    "ONNX Runtime Web": ("web-fp32", 2e-5)}


class Runtime(NamedTuple):
    step: Step
    contract: Contract
    may_differ: float

    def stream(self) -> Stream:
        return Stream(self.step, self.contract)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("backends")


@pytest.fixture(scope="module", params=[
    pytest.param(name, marks=pytest.mark.long if name == "ONNX Runtime Web" else ()) for name in STEPS])
def runtime(request: pytest.FixtureRequest, tiny: Path, folder: Path) -> Runtime:
    name, may_differ = STEPS[request.param]
    name = on_this_cpu(name)
    if name.startswith("openvino"):
        need("openvino", "openvino")
    if name.startswith("web"):
        request.getfixturevalue("onnxruntime_web")
        request.getfixturevalue("chromium")
    if name == "openvino-bf16":
        request.getfixturevalue("bf16")
    if name:
        tagger = load(compiled(tiny, name, folder))
        return Runtime(tagger.step, tagger.contract, may_differ)
    contract = open_bundle(tiny).contract
    weights = load_checkpoint("random", named_variant(contract.variant))
    return Runtime(make_reference(weights), contract, may_differ)


def test_scores_are_pytorchs_as_near_as_the_precision_allows(runtime: Runtime, tiny: Path) -> None:
    audio, (expected, _) = open_bundle(tiny).golden()
    streams = StreamBatch(runtime.step, runtime.contract)
    found = golden_scores(streams, audio)[0]
    assert (found.dtype, found.shape) == (np.float32, expected.shape)
    assert np.abs(found - expected).max() <= runtime.may_differ


def test_the_same_sound_has_the_same_scores(runtime: Runtime, audio: FloatArray) -> None:
    first = runtime.stream().feed(audio[:160_000])
    assert first.shape == (5, 527)
    kept = first.copy()
    np.testing.assert_array_equal(runtime.stream().feed(audio[:160_000]), first)
    np.testing.assert_array_equal(first, kept)  # scores are the caller's own


def test_reset_begins_again_from_silence(runtime: Runtime, audio: FloatArray) -> None:
    stream = runtime.stream()
    first = stream.feed(audio[:96_000])
    assert not np.array_equal(stream.feed(audio[:96_000])[0], first[0])
    stream.reset()
    np.testing.assert_array_equal(stream.feed(audio[:96_000]), first)


def test_streams_in_turns_do_not_hear_each_other(runtime: Runtime, audio: FloatArray) -> None:
    chunks = audio[:320_000].reshape(2, 5, 32_000)
    alone = [runtime.stream().feed(part.reshape(-1)) for part in chunks]
    streams = [runtime.stream(), runtime.stream()]
    turns = [[s.feed(part[i])[0] for s, part in zip(streams, chunks, strict=True)] for i in range(5)]
    for number in range(2):
        np.testing.assert_array_equal([turn[number] for turn in turns], alone[number])


def test_streams_of_several_threads_do_not_hear_each_other(runtime: Runtime, audio: FloatArray) -> None:
    sounds = audio[:4 * 160_000].reshape(4, -1)
    alone = [runtime.stream().feed(sound) for sound in sounds]
    with ThreadPoolExecutor(4) as pool:
        together = list(pool.map(lambda sound: runtime.stream().feed(sound), sounds))
    np.testing.assert_allclose(together, alone, atol=1e-6)


def test_the_cache_is_carried_and_forgotten_after_as_many_chunks_as_it_remembers(
        runtime: Runtime, audio: FloatArray) -> None:
    one, other = runtime.stream(), runtime.stream()
    other.feed(audio[::-1])
    for number, chunk in enumerate(np.split(audio, 30)[:15]):
        found, after_another = one.feed(chunk), other.feed(chunk)
        assert np.array_equal(found, after_another) == (number >= runtime.contract.memory_steps), number


@pytest.fixture(scope="module", params=[
    ("onnx", "tiny_three"), ("openvino-fp32", "tiny_three"), ("openvino-fp32-explicit", "tiny_three"),
    ("openvino-fp32", "tiny_lanes")], ids=" ".join)
def three(request: pytest.FixtureRequest, folder: Path) -> StreamBatch:
    """Three streams in one step."""
    target, source = request.param
    if target.startswith("openvino"):
        need("openvino", "openvino")
    return load(compiled(request.getfixturevalue(source), target, folder)).streams(3)


def test_of_several_streams_in_one_step_one_is_reset_by_itself(
        three: StreamBatch, tiny: Path, audio: FloatArray) -> None:
    alone: Callable[[FloatArray], FloatArray] = lambda sound: load(tiny).stream().feed(sound)  # noqa: E731
    sounds = audio[:3 * 128_000].reshape(3, -1)
    three.reset()
    three.reset(2)  # before the first chunk
    before = three.feed(sounds[:, :96_000])  # three chunks, an odd number: the two buffers have swapped roles
    three.reset(1)
    after = three.feed(sounds[:, 96_000:])
    for lane in (0, 2):
        found = np.concatenate((before[:, lane], after[:, lane]))
        np.testing.assert_allclose(found, alone(sounds[lane]), atol=2e-5)
    np.testing.assert_allclose(after[:, 1], alone(sounds[1, 96_000:]), atol=2e-5)
