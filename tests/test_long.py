"""Tests that take too long for the suite: `make test-long`."""

from __future__ import annotations

import time
from collections.abc import Iterator
from itertools import cycle, islice
from pathlib import Path

import numpy as np
import pytest

from satexport.backends.tensorrt.build import build_engine
from satexport.backends.tensorrt.settings import TensorRtSettings
from satexport.bundle.contract import ANY, GraphOptions
from satexport.bundle.folder import open_bundle
from satexport.models.checkpoint import load_checkpoint
from satexport.models.families import find_variant
from satexport.models.sat.variants import VARIANTS
from satexport.parity.protocols import run_parity
from satexport.pipeline.build import compile_bundle
from satexport.pipeline.export import export_onnx, golden_audio
from satexport.pipeline.plan import BuildOptions
from satexport.quantize.calibration_set import find_calibration
from satexport.step import FloatArray
from satexport.tagging.stream import Stream, StreamBatch
from satexport.tagging.tagger import load
from satexport.targets import find_target
from tests.machine import need
from tests.models.sat.graphs import DISTINCT
from tests.tiny import FEW, export

pytestmark = pytest.mark.long

STREAMING = [(model, delay) for model, delay in VARIANTS if model.startswith("sat")]


@pytest.mark.parametrize(("model", "delay"), DISTINCT)
def test_every_variant_stays_within_its_gate_over_ten_minutes(tmp_path: Path, model: str, delay: int) -> None:
    tagger = load(export(tmp_path, model, delay, "random"))
    result = run_parity(tagger, minutes=10)
    print(f"\n{model} at {delay} s: {result.differences}")
    assert result.gates[0].status == "passed", result.gates[0].note


def test_the_demo_stays_within_its_gate_over_ten_minutes(demo: Path) -> None:
    result = run_parity(load(demo), minutes=10)
    print(f"\ndemo: {result.differences}")
    assert [gate.status for gate in result.gates] == ["passed"] * 3


def resident_bytes() -> int:
    """Current resident memory of this process."""
    status = Path("/proc/self/status").read_text("ascii").splitlines()
    return next(int(line.split()[1]) * 1024 for line in status if line.startswith("VmRSS"))


def assert_steady(stream: Stream, audio: FloatArray, chunks: int) -> None:
    """Repeat a minute of audio: its scores must repeat bit by bit, without any drift; memory must be
    constant, and a step must take as long at the end as at the beginning."""
    minute = audio.reshape(30, -1)
    first: list[FloatArray] = []
    sizes, seconds = [], np.zeros(chunks)
    for number, chunk in enumerate(islice(cycle(minute), chunks)):
        start = time.process_time()  # CPU time of all threads: other processes do not count
        (scores,) = stream.feed(chunk)
        seconds[number] = time.process_time() - start
        if 30 <= number < 60:  # the second minute: the state before the first is forgotten
            assert np.isfinite(scores).all()
            first.append(scores)
        elif number >= 60:
            np.testing.assert_array_equal(scores, first[number % 30])
        if number % (chunks // 10) == chunks // 10 - 1:
            sizes.append(resident_bytes())
    medians = [float(np.median(part)) * 1000 for part in np.array_split(seconds, 10)]
    print(f"\nresident after each tenth of {chunks} chunks, MB: {[round(size / 1e6, 1) for size in sizes]}; "
          f"median step, ms: {[round(median, 2) for median in medians]}")
    assert max(sizes[3:]) - sizes[3] < 2e6  # OpenVINO's threads take 4 MB in the first hours, and no more
    assert medians[-1] < 3 * min(medians)


def test_memory_is_flat_and_scores_are_steady_over_a_hundred_thousand_chunks(
        tiny: Path, audio: FloatArray) -> None:
    """55 hours of stream."""
    assert_steady(load(tiny).stream(), audio, 100_000)


@pytest.mark.parametrize(("target", "cache_dtype"), [
    ("cpu-int8", "fp32"), ("cpu-int8", "int8"), ("openvino-int8", "fp32"), ("openvino-fp32", "fp32")])
def test_a_day_of_a_targets_stream_is_as_steady(
        demo: Path, tmp_path: Path, audio: FloatArray, target: str, cache_dtype: str) -> None:
    wanted = BuildOptions(calibration=find_calibration("synthetic"), cache_dtype=cache_dtype)
    made = compile_bundle(open_bundle(demo), find_target(target), tmp_path, wanted)
    assert_steady(load(made.path).stream(), audio, 43_200)


def test_interleaved_streams_never_hear_each_other(demo: Path, audio: FloatArray) -> None:
    """Five streams take turns in random order, for 2,000 chunks each, with occasional resets. Each gives the
    same scores as if it ran alone."""
    tagger, chance = load(demo), np.random.default_rng(0)
    chunks = audio.reshape(30, -1)
    streams, alone = ([tagger.stream() for _ in range(5)] for _ in range(2))
    orders: list[Iterator[int]] = [cycle(chance.permutation(30).tolist()) for _ in streams]
    waiting: list[list[tuple[int, bool]]] = [[] for _ in streams]
    heard: list[list[FloatArray]] = [[] for _ in streams]
    for number in chance.integers(0, 5, 10_000).tolist():
        chunk, reset = next(orders[number]), bool(chance.random() < 0.02)
        if reset:
            streams[number].reset()
        heard[number].append(streams[number].feed(chunks[chunk])[0])
        waiting[number].append((chunk, reset))
    for stream, history, scores in zip(alone, waiting, heard, strict=True):
        for (chunk, reset), expected in zip(history, scores, strict=True):
            if reset:
                stream.reset()
            np.testing.assert_array_equal(stream.feed(chunks[chunk])[0], expected)


@pytest.mark.parametrize("cache", ["kv", "hidden"])
@pytest.mark.parametrize(("model", "delay"), STREAMING)
def test_how_a_stream_started_is_forgotten_exactly_after_as_many_chunks_as_the_cache_remembers(
        tmp_path: Path, model: str, delay: int, cache: str) -> None:
    """This limits drift: the scores depend only on the last 12 chunks, 24 for SAT-S at 1 s."""
    checkpoint = load_checkpoint("random", find_variant(model, delay))
    memory = 24 if (model, delay) == ("sat-s", 1) else 12
    assert checkpoint.variant.memory_steps == memory
    tagger = load(export_onnx(checkpoint, find_target("onnx"), tmp_path, GraphOptions(cache=cache)).path)
    audio = golden_audio(checkpoint.variant)
    one, other = tagger.stream(), tagger.stream()
    other.feed(audio[::-1].reshape(-1))  # a different history
    for number, chunk in enumerate(np.concatenate((audio, audio[:3]))):
        assert np.array_equal(one.feed(chunk), other.feed(chunk)) == (number >= memory), number


def test_eight_streams_in_one_step_score_as_each_does_alone_for_an_hour(
        tmp_path: Path, demo: Path, audio: FloatArray) -> None:
    checkpoint = load_checkpoint("demo", find_variant("sat-t", 2))
    together = load(export_onnx(
        checkpoint, find_target("onnx"), tmp_path, GraphOptions(streams=ANY)).path).streams(8)
    one = load(demo)
    alone = [StreamBatch(one.step, one.contract) for _ in range(8)]
    chunks, largest = audio.reshape(30, -1), 0.0
    for number in range(1_800):
        heard = chunks[[(number * (lane + 1) + lane) % 30 for lane in range(8)]]
        if number % 97 == 96:
            lane = number % 8
            together.reset(lane)
            alone[lane].reset()
        found = together.feed(heard)[0]
        expected = np.concatenate([s.feed(one[None])[0] for s, one in zip(alone, heard, strict=True)])
        largest = max(largest, float(np.abs(found - expected).max()))
    print(f"\nlargest difference of eight streams in one step from each alone: {largest:.1e}")
    assert largest < 1e-5


@pytest.mark.parametrize("cache", ["kv", "hidden"])
@pytest.mark.parametrize(("model", "delay"), STREAMING)
def test_rtx_compile_check_of_both_graphs(tmp_path: Path, model: str, delay: int, cache: str) -> None:
    trt = need("tensorrt_rtx", "trt")
    target = find_target("jetson-orin-nano")
    weights = load_checkpoint("random", find_variant(model, delay))
    options = GraphOptions(cache=cache)
    source = export_onnx(weights, find_target("onnx"), tmp_path, options, use_onnxsim=False).path
    path = compile_bundle(open_bundle(source), target, tmp_path, BuildOptions(calibration=FEW)).path
    for precision in ("int8", "fp16"):
        start = time.perf_counter()
        engine = build_engine(trt, path / f"{precision}.onnx", TensorRtSettings.of(target), ("8.6",))
        print(f"\nRTX compile check, {model} at {delay} s, cache {cache}, {precision}: "
              f"{len(engine) / 1e6:.1f} MB for compute capability 8.6 in {time.perf_counter() - start:.1f} s")
        assert len(engine) > 1_000_000
