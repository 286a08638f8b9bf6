"""Streams over TensorRT, with ONNX Runtime in the place of the GPU: behind the thin interface of an engine,
and behind TensorRT's own calls over a CUDA runtime that is compiled here."""

from __future__ import annotations

import os
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from satexport.backends.tensorrt.step import TensorRtCache, TensorRtStep
from satexport.bundle.folder import open_bundle
from satexport.errors import RunError, UsageError
from satexport.step import FloatArray
from satexport.tagging.stream import Stream, StreamBatch
from satexport.tagging.tagger import Tagger, load
from tests.backends.tensorrt.engines import Kind, Runtime, fake_kind, real_kind
from tests.backends.tensorrt.fake_engine import FakeEngine
from tests.backends.tensorrt.fake_tensorrt import FakeTensorRt

# Streams.

def test_scores_are_those_of_onnx_runtime(runtime: Runtime, tiny_tagger: Tagger, audio: FloatArray) -> None:
    found = runtime.stream().feed(audio[:256_000])
    assert found.dtype == np.float32
    np.testing.assert_allclose(found, tiny_tagger.stream().feed(audio[:256_000]), atol=1e-6)


def test_reset_repeats_the_first_scores(runtime: Runtime, audio: FloatArray) -> None:
    stream = runtime.stream()
    first = stream.feed(audio[:96_000])
    kept = first.copy()
    assert not np.array_equal(stream.feed(audio[:96_000])[0], first[0])
    stream.reset()
    np.testing.assert_array_equal(stream.feed(audio[:96_000]), first)
    np.testing.assert_array_equal(first, kept)  # scores are the caller's own


def test_streams_in_turns_do_not_hear_each_other(runtime: Runtime, audio: FloatArray) -> None:
    chunks = audio[:256_000].reshape(2, 4, 32_000)
    alone = [runtime.stream().feed(part.reshape(-1)) for part in chunks]
    streams = [runtime.stream(), runtime.stream()]
    turns = [[s.feed(part[i])[0] for s, part in zip(streams, chunks, strict=True)] for i in range(4)]
    for number in range(2):
        np.testing.assert_array_equal([turn[number] for turn in turns], alone[number])


def test_streams_of_several_threads_do_not_hear_each_other(runtime: Runtime, audio: FloatArray) -> None:
    sounds = audio[:4 * 96_000].reshape(4, -1)
    alone = [runtime.stream().feed(sound) for sound in sounds]
    with ThreadPoolExecutor(4) as pool:
        together = list(pool.map(lambda sound: runtime.stream().feed(sound), sounds))
    np.testing.assert_array_equal(together, alone)


def test_of_several_streams_in_one_step_one_is_reset_by_itself(
        kind: Kind, tiny_three: Path, tiny_tagger: Tagger, audio: FloatArray) -> None:
    runtime = Runtime(kind, tiny_three)
    streams, sounds = StreamBatch(runtime.step, runtime.contract, 3), audio[:3 * 160_000].reshape(3, -1)
    streams.reset(2)  # before anything was heard
    before = streams.feed(sounds[:, :96_000])  # three chunks: the buffers have swapped roles
    streams.reset(1)
    after = streams.feed(sounds[:, 96_000:])
    expected = np.stack([tiny_tagger.stream().feed(sound) for sound in sounds], axis=1)
    expected[3:, 1] = tiny_tagger.stream().feed(sounds[1, 96_000:])
    np.testing.assert_allclose(np.concatenate((before, after)), expected, atol=2e-5)
    del streams
    runtime.step.close()


def test_a_model_without_a_cache_runs(kind: Kind, random_vit: Path, audio: FloatArray) -> None:
    runtime = Runtime(kind, random_vit)
    found = runtime.stream().feed(audio[:96_000])
    np.testing.assert_allclose(found, load(random_vit).stream().feed(audio[:96_000]), atol=1e-6)
    runtime.step.close()


def test_a_forgotten_swap_would_be_heard_from_the_second_chunk_on(
        runtime: Runtime, tiny_tagger: Tagger, audio: FloatArray, monkeypatch: pytest.MonkeyPatch) -> None:
    expected = tiny_tagger.stream().feed(audio[:128_000])
    monkeypatch.setattr(TensorRtCache, "swap", lambda cache: None)
    found = runtime.stream().feed(audio[:128_000])
    np.testing.assert_allclose(found[0], expected[0], atol=1e-6)
    assert (np.abs(found - expected).max(axis=1)[1:] > 1e-3).all()


def test_silence_in_the_buffers_of_the_wrong_turn_would_be_heard(
        runtime: Runtime, audio: FloatArray, monkeypatch: pytest.MonkeyPatch) -> None:
    def again_after(chunks: int) -> bool:
        streams = StreamBatch(runtime.step, runtime.contract)
        first = streams.feed(audio[None, :32_000])
        streams.feed(audio[None, :(chunks - 1) * 32_000])
        streams.reset(0)
        return np.array_equal(streams.feed(audio[None, :32_000]), first)

    def forget_buffers(cache: TensorRtCache) -> None:
        cache.step, cache.next_step = cache.next_step, cache.step

    assert again_after(3)
    assert again_after(4)
    monkeypatch.setattr(TensorRtCache, "swap", forget_buffers)
    assert not again_after(3)


# The device: addresses, memory, failures.

def test_no_buffer_is_bound_as_a_cache_input_and_its_output(tiny: Path) -> None:
    runtime = Runtime(fake_kind(), tiny)
    streams = [runtime.stream() for _ in range(2)]
    assert isinstance(runtime.engine, FakeEngine)
    names, bound = [spec.name for spec in runtime.contract.cache_in], runtime.engine.bound
    assert len(bound) == 4
    assert all(len(set(step.values())) == len(step) for step in bound)  # nor anything else twice
    for there, back in (bound[:2], bound[2:]):
        for name in names:
            out = name.replace("_in_", "_out_")
            assert (there[name], there[out]) == (back[out], back[name])
    assert not set(bound[0].values()) & set(bound[2].values())
    del streams


def test_a_failed_step_is_an_error_and_its_chunk_can_be_heard_again(
        runtime: Runtime, audio: FloatArray) -> None:
    stream, chunks = runtime.stream(), audio[:96_000].reshape(3, -1)
    expected = runtime.stream().feed(audio[:96_000])
    assert np.array_equal(stream.feed(chunks[0]), expected[:1])
    runtime.kind.fail(runtime.engine, True)
    with pytest.raises(RunError):
        stream.feed(chunks[1])
    runtime.kind.fail(runtime.engine, False)
    assert np.array_equal(stream.feed(chunks[2]), expected[1:])  # the failed chunk waited
    stream.reset()
    assert np.array_equal(stream.feed(audio[:96_000]), expected)


def test_an_error_on_the_device_is_raised_by_the_step_that_waits_for_it(
        tiny: Path, trt: FakeTensorRt, audio: FloatArray) -> None:
    runtime = Runtime(real_kind(trt, True), tiny)
    stream = runtime.stream()
    trt.library.fake_fail(b"cudaStreamSynchronize", 700, 1)  # the upload waits first
    with pytest.raises(RunError, match=r"CUDA: cudaStreamSynchronize failed: an illegal memory access"):
        stream.feed(audio[:32_000])
    runtime.step.close()


def test_memory_is_freed_when_streams_go(runtime: Runtime, audio: FloatArray) -> None:
    before = runtime.live
    streams = [runtime.stream(), runtime.stream()]
    one = (runtime.live - before) // 2
    assert one >= 2 + 2 * len(runtime.contract.cache_in)
    streams[0].feed(audio[:32_000])
    streams[0].reset()
    assert runtime.live == before + 2 * one
    streams.pop()
    assert runtime.live == before + one
    streams.clear()
    assert runtime.live == before


def test_memory_of_streams_that_go_while_a_step_runs_is_freed_after_it(
        runtime: Runtime, audio: FloatArray, monkeypatch: pytest.MonkeyPatch) -> None:
    stream, streams, before = runtime.stream(), [runtime.stream()], runtime.live
    upload = type(runtime.engine).upload

    def collecting(engine: Any, address: int, array: NDArray[Any]) -> None:
        streams.clear()
        assert runtime.live == before
        upload(engine, address, array)

    monkeypatch.setattr(type(runtime.engine), "upload", collecting)
    stream.feed(audio[:32_000])
    assert runtime.live < before


def test_a_forked_child_neither_steps_nor_frees(
        runtime: Runtime, audio: FloatArray, monkeypatch: pytest.MonkeyPatch) -> None:
    stream, streams = runtime.stream(), [runtime.stream()]
    before, here = runtime.live, os.getpid()
    monkeypatch.setattr(os, "getpid", lambda: here + 1)  # as in a child
    streams.clear()
    for use in (lambda: stream.feed(audio[:32_000]), runtime.stream, runtime.step.close):
        with pytest.raises(UsageError, match="load the bundle again in this process"):
            use()
    assert runtime.live == before
    monkeypatch.undo()
    stream.feed(audio[:32_000])


def test_close_frees_what_streams_still_have(runtime: Runtime) -> None:
    stream = runtime.stream()
    runtime.step.close()
    freed = runtime.live
    runtime.step.close()
    del stream
    assert runtime.live == freed


def test_streams_that_find_no_memory_leave_none_behind(tiny: Path, trt: FakeTensorRt) -> None:
    runtime = Runtime(real_kind(trt, True), tiny)
    before = runtime.live
    for call, after in (("cudaMalloc", 5), ("cudaStreamSynchronize", 1), ("fake_enqueue", 2)):
        trt.library.fake_fail(call.encode(), 2, after)
        with pytest.raises(RunError):
            runtime.stream()
        assert runtime.live == before, call
    runtime.step.close()


def test_an_engine_with_tensors_in_fp16_is_fed_and_read_so(
        tiny: Path, tiny_tagger: Tagger, audio: FloatArray) -> None:
    bundle = open_bundle(tiny)
    engine = FakeEngine(bundle.graph.read_bytes(), "float16")
    step = TensorRtStep(engine, bundle.contract, bundle.initial_cache())
    assert step(audio[None, :32_000], step.initial_cache(1))[0].scores.dtype == np.float32
    found = Stream(step, bundle.contract).feed(audio[:128_000])
    expected = tiny_tagger.stream().feed(audio[:128_000])
    np.testing.assert_allclose(found, expected, atol=0.02)
    assert not np.array_equal(found, expected)
    step.close()
