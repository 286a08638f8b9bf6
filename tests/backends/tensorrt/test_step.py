"""Streams over TensorRT, with ONNX Runtime in the place of the GPU: behind the thin interface of an engine,
and behind TensorRT's own calls over a CUDA runtime that is compiled here."""

from __future__ import annotations

import ctypes
import gc
import os
import sys
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any, NamedTuple

import numpy as np
import pytest
from numpy.typing import NDArray

from satexport.backends.tensorrt import cuda
from satexport.backends.tensorrt import step as tensorrt
from satexport.backends.tensorrt.cuda import Cuda
from satexport.backends.tensorrt.engine import Engine, EngineTensor, TensorRtEngine
from satexport.backends.tensorrt.step import RECORD, TensorRtCache, TensorRtStep
from satexport.bundle.contract import ANY
from satexport.bundle.folder import Bundle, open_bundle
from satexport.errors import BundleError, MissingError, RunError, SatexportError, UsageError
from satexport.files import sha256_of, write_json
from satexport.step import FloatArray
from satexport.tagging.stream import Stream, StreamBatch
from satexport.tagging.tagger import Tagger, load
from tests import ROOT
from tests.backends.tensorrt.fake_cuda import KERNEL, fake_cudart
from tests.backends.tensorrt.fake_engine import FakeEngine, graph_of
from tests.bundle.copies import copy_of
from tests.lean import TRAINING, python

GRAPH = "model.onnx"
ENGINE = "fp16.engine"
WORDS = {"float32": "FLOAT", "float16": "HALF", "int8": "INT8"}  # numpy's and TensorRT's


# ONNX Runtime over bare addresses.

# TensorRT's own calls, as far as they are used.

class FakeTensorRt:
    """The module `tensorrt`: a plan is an ONNX file, a step a kernel on the fake CUDA stream."""

    __version__ = "10.3.0"
    TensorIOMode = SimpleNamespace(INPUT="input", OUTPUT="output")
    LayerInformationFormat = SimpleNamespace(ONELINE=0, JSON=1)

    class ILogger:
        INTERNAL_ERROR, ERROR, WARNING = range(3)

    def __init__(self, library: ctypes.CDLL) -> None:
        self.library = library
        self.refused = ""  # the call that says no
        self.word = "FLOAT"
        self.information: str | None = '{"Layers": ["gemm"]}'

    def Runtime(self, logger: Any) -> SimpleNamespace:  # noqa: N802
        def deserialize_cuda_engine(plan: bytes) -> FakeCudaEngine | None:
            logger.log(self.ILogger.WARNING, "the weather is bad.")
            if plan.startswith(b"damaged"):
                logger.log(self.ILogger.ERROR, "the magic tag does not match.")
                return None
            return FakeCudaEngine(self, logger, plan)

        return SimpleNamespace(deserialize_cuda_engine=deserialize_cuda_engine)


class FakeCudaEngine:
    def __init__(self, trt: FakeTensorRt, logger: Any, plan: bytes) -> None:
        self.trt, self.logger, self.graph = trt, logger, graph_of(plan)
        self.num_io_tensors = len(self.graph.tensors)

    def get_tensor_name(self, number: int) -> str:
        return [*self.graph.tensors][number]

    def get_tensor_shape(self, name: str) -> tuple[int, ...]:
        return self.graph.tensors[name].shape

    def get_tensor_dtype(self, name: str) -> SimpleNamespace:
        return SimpleNamespace(name=self.trt.word)

    def get_tensor_mode(self, name: str) -> str:
        return "input" if self.graph.tensors[name].is_input else "output"

    def create_engine_inspector(self) -> SimpleNamespace:
        texts = {self.trt.LayerInformationFormat.JSON: self.trt.information}
        return SimpleNamespace(get_engine_information=texts.__getitem__)

    def create_execution_context(self) -> FakeContext | None:
        return None if self.trt.refused == "context" else FakeContext(self)


class FakeContext:
    def __init__(self, engine: FakeCudaEngine) -> None:
        self.engine, self.addresses, self.kernels = engine, dict[str, int](), list[Any]()

    def set_tensor_address(self, name: str, address: int) -> bool:
        self.addresses[name] = address
        return self.engine.trt.refused != "address"

    def execute_async_v3(self, stream: int) -> bool:
        trt, run = self.engine.trt, partial(self.engine.graph.run, dict(self.addresses))
        if trt.refused == "enqueue":
            self.engine.logger.log(trt.ILogger.ERROR, "an address is not there.")
            return False
        self.kernels.append(KERNEL(lambda _: run()))
        return not trt.library.fake_enqueue(stream, self.kernels[-1], None)


# What the tests run on: the thin interface, and the real engine with and without CUDA graphs.

class Kind(NamedTuple):
    engine: Callable[[Path], Engine]
    fail: Callable[[Engine, bool], None]   # have each step fail from now on, or no more
    live: Callable[[Engine], int]          # buffers and what else is held


@pytest.fixture(scope="module")
def library(tmp_path_factory: pytest.TempPathFactory) -> ctypes.CDLL:
    return fake_cudart(tmp_path_factory.mktemp("cudart"))


@pytest.fixture
def trt(library: ctypes.CDLL, monkeypatch: pytest.MonkeyPatch) -> Iterator[FakeTensorRt]:
    """TensorRT and a GPU on this machine."""
    monkeypatch.setattr(cuda, "LIBRARIES", (library._name,))
    fake, before = FakeTensorRt(library), library.fake_live()
    monkeypatch.setitem(sys.modules, "tensorrt", fake)
    yield fake
    library.fake_fail(b"", 0, 0)
    if library.fake_live() != before:  # a traceback may hold a stream
        gc.collect()
    assert library.fake_live() == before


def fake_kind() -> Kind:
    def fail(engine: Engine, whether: bool) -> None:
        assert isinstance(engine, FakeEngine)
        engine.fails = whether

    def live(engine: Engine) -> int:
        assert isinstance(engine, FakeEngine)
        return len(engine.buffers)

    return Kind(lambda path: FakeEngine(path.read_bytes()), fail, live)


def real_kind(trt: FakeTensorRt, graphs: bool) -> Kind:
    def fail(engine: Engine, whether: bool) -> None:
        if graphs:
            trt.library.fake_fail(b"cudaGraphLaunch" if whether else b"", 1, 0)
        else:
            trt.refused = "enqueue" if whether else ""

    return Kind(lambda path: TensorRtEngine(path, trt, Cuda()), fail, lambda engine: trt.library.fake_live())


@pytest.fixture(params=["thin interface", "CUDA graphs", "no CUDA graphs"])
def kind(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Kind:
    if request.param == "thin interface":
        return fake_kind()
    if request.param == "no CUDA graphs":
        def refuse(*_: object) -> int:
            raise RunError("this work cannot be captured")

        monkeypatch.setattr(Cuda, "capture", refuse)
    return real_kind(request.getfixturevalue("trt"), request.param == "CUDA graphs")


class Runtime:
    """A bundle on an engine."""

    def __init__(self, kind: Kind, path: Path) -> None:
        bundle = open_bundle(path)
        self.engine, self.contract, self.kind = kind.engine(bundle.graph), bundle.contract, kind
        self.step = TensorRtStep(self.engine, self.contract, bundle.initial_cache())

    def stream(self) -> Stream:
        return Stream(self.step, self.contract)

    @property
    def live(self) -> int:
        return self.kind.live(self.engine)


@pytest.fixture(scope="module")
def tagger(tiny: Path) -> Tagger:
    return load(tiny)


@pytest.fixture
def runtime(kind: Kind, tiny: Path) -> Iterator[Runtime]:
    runtime = Runtime(kind, tiny)
    yield runtime
    runtime.step.close()


# Streams.

def test_scores_are_those_of_onnx_runtime(runtime: Runtime, tagger: Tagger, audio: FloatArray) -> None:
    found = runtime.stream().feed(audio[:256_000])
    assert found.dtype == np.float32
    np.testing.assert_allclose(found, tagger.stream().feed(audio[:256_000]), atol=1e-6)


def test_reset_gives_the_first_answer_again(runtime: Runtime, audio: FloatArray) -> None:
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
        kind: Kind, tiny_three: Path, tagger: Tagger, audio: FloatArray) -> None:
    runtime = Runtime(kind, tiny_three)
    streams, sounds = StreamBatch(runtime.step, runtime.contract, 3), audio[:3 * 160_000].reshape(3, -1)
    streams.reset(2)  # before anything was heard
    before = streams.feed(sounds[:, :96_000])  # three chunks: the buffers have swapped roles
    streams.reset(1)
    after = streams.feed(sounds[:, 96_000:])
    expected = np.stack([tagger.stream().feed(sound) for sound in sounds], axis=1)
    expected[3:, 1] = tagger.stream().feed(sounds[1, 96_000:])
    np.testing.assert_allclose(np.concatenate((before, after)), expected, atol=2e-5)
    del streams
    runtime.step.close()


def test_a_model_without_a_cache_runs(kind: Kind, random_vit: Path, audio: FloatArray) -> None:
    runtime = Runtime(kind, random_vit)
    found = runtime.stream().feed(audio[:96_000])
    np.testing.assert_allclose(found, load(random_vit).stream().feed(audio[:96_000]), atol=1e-6)
    runtime.step.close()


def test_a_forgotten_swap_would_be_heard_from_the_second_chunk_on(
        runtime: Runtime, tagger: Tagger, audio: FloatArray, monkeypatch: pytest.MonkeyPatch) -> None:
    expected = tagger.stream().feed(audio[:128_000])
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
        cache.step, cache.back = cache.back, cache.step

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
        with pytest.raises(UsageError, match="load the bundle in this process, after the fork"):
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
        tiny: Path, tagger: Tagger, audio: FloatArray) -> None:
    bundle = open_bundle(tiny)
    engine = FakeEngine(bundle.graph.read_bytes(), "float16")
    step = TensorRtStep(engine, bundle.contract, bundle.initial_cache())
    assert step(audio[None, :32_000], step.initial_cache(1))[0].dtype == np.float32
    found = Stream(step, bundle.contract).feed(audio[:128_000])
    expected = tagger.stream().feed(audio[:128_000])
    np.testing.assert_allclose(found, expected, atol=0.02)
    assert not np.array_equal(found, expected)
    step.close()


# What does not fit.

def test_an_engine_runs_the_number_of_streams_it_was_built_for(runtime: Runtime) -> None:
    with pytest.raises(UsageError, match=r"runs 1 streams in one step, not 2\. Export with --streams 2"):
        runtime.step.initial_cache(2)


def test_a_graph_for_any_number_of_streams_is_no_engine(tiny: Path) -> None:
    bundle = open_bundle(tiny)
    contract = replace(bundle.contract, options=replace(bundle.contract.options, streams=ANY))
    with pytest.raises(BundleError, match=r"leaves the number of streams open.*--streams N"):
        TensorRtStep(FakeEngine(bundle.graph.read_bytes()), contract, ())


CACHE = "cache_in_03"
WRONG: dict[str, tuple[dict[str, Any], str]] = {
    "absent": ({CACHE: None}, "the engine's cache_in_03 is None, expected EngineTensor"),
    "foreign": ({"mask": EngineTensor((1,), "float32", True)}, "has a tensor mask, the contract has not"),
    "shape": ({CACHE: {"shape": (1, 2)}}, r"shape=\(1, 2\).*expected .*shape=\(1, \d+, \d+, \d+\)"),
    "direction": ({CACHE: {"is_input": False}}, "is_input=False.*expected .*is_input=True"),
    "dtype": ({CACHE: {"dtype": "int8"}}, "dtype='int8'.*expected .*dtype='float32'"),
    "two dtypes": ({CACHE: {"dtype": "float16"}}, "cache_in_03 in float16 and cache_out_03 in float32")}


@pytest.mark.parametrize("case", WRONG)
def test_an_engine_of_another_graph_is_refused(tiny: Path, case: str) -> None:
    bundle, (changes, words) = open_bundle(tiny), WRONG[case]
    engine = FakeEngine(bundle.graph.read_bytes())
    tensors = dict(engine.tensors())
    for name, change in changes.items():
        if change is None:
            del tensors[name]
        else:
            tensors[name] = replace(tensors[name], **change) if isinstance(change, dict) else change
    engine.graph = SimpleNamespace(tensors=tensors)  # type: ignore[assignment]
    with pytest.raises(BundleError, match=f"{words}.*satexport trt --build"):
        TensorRtStep(engine, bundle.contract, bundle.initial_cache())


# TensorRT's own refusals.

def test_a_plan_that_tensorrt_cannot_read_says_why_and_what_to_do(
        trt: FakeTensorRt, tmp_path: Path) -> None:
    (tmp_path / ENGINE).write_bytes(b"damaged")
    with pytest.raises(BundleError, match=r"TensorRT 10\.3\.0 cannot read it: the magic tag does not match\. "
                                          r"It is damaged, .*another.*Build it again on this board"):
        TensorRtEngine(tmp_path / ENGINE, trt, Cuda())


REFUSED = {"context": "cannot make a context to run it in: it does not say why",
           "address": "takes no address for audio: it does not say why",
           "enqueue": "cannot enqueue a step: an address is not there"}


@pytest.mark.parametrize("refused", REFUSED)
def test_what_tensorrt_refuses_is_an_error_with_its_words(
        trt: FakeTensorRt, tiny: Path, refused: str) -> None:
    trt.refused = refused
    with pytest.raises(RunError, match=REFUSED[refused]):
        Runtime(real_kind(trt, True), tiny).stream()


def test_an_engine_tells_whether_its_steps_are_cuda_graphs(trt: FakeTensorRt, tiny: Path) -> None:
    runtime = Runtime(real_kind(trt, True), tiny)
    stream = runtime.stream()
    assert runtime.engine.captured
    trt.library.fake_fail(b"cudaStreamEndCapture", 901, 1)  # of the second direction
    stream.reset()
    assert not runtime.engine.captured
    runtime.step.close()


@pytest.mark.parametrize(("text", "layers"), [
    ('{"Layers": ["gemm"]}', {"Layers": ["gemm"]}), ("no JSON", {}), ("[1]", {}), (None, {})])
def test_an_engine_tells_of_its_layers_what_the_inspector_does(
        trt: FakeTensorRt, tiny: Path, text: str | None, layers: dict[str, Any]) -> None:
    trt.information = text
    engine = TensorRtEngine(tiny / GRAPH, trt, Cuda())
    assert engine.layers() == layers
    engine.close()


def test_a_dtype_that_is_not_of_a_contract_is_named(trt: FakeTensorRt, tiny: Path) -> None:
    trt.word = "BF16"
    with pytest.raises(BundleError, match=r"the engine's audio is .*BF16"):
        Runtime(real_kind(trt, True), tiny)


# The bundle's engine.

def built(tiny: Path, folder: Path, **changes: object) -> Bundle:
    """A bundle with an engine beside it, and the record that says what it is; None leaves a key out."""
    path = copy_of(tiny, folder)
    bundle = open_bundle(path)
    (path / ENGINE).write_bytes(bundle.graph.read_bytes())
    record = {"engine": ENGINE, "sha256": sha256_of(path / ENGINE), "graph_sha256": sha256_of(bundle.graph),
              "bundle_sha256": bundle.sha256, "tensorrt": "10.3.0", "compute_capability": ["8.7"],
              "precision": "fp32", "executed": {"products": {"fp32": 71}}} | changes
    write_json(path / RECORD, {key: value for key, value in record.items() if value is not None})
    return bundle


def test_a_bundle_with_its_engine_runs_and_tells_its_precisions(
        tiny: Path, trt: FakeTensorRt, tagger: Tagger, audio: FloatArray, tmp_path: Path) -> None:
    bundle = built(tiny, tmp_path)
    step = tensorrt.load_engine(bundle)
    assert step.executed() == {"products": {"fp32": 71}}
    found = Stream(step, bundle.contract).feed(audio[:96_000])
    np.testing.assert_allclose(found, tagger.stream().feed(audio[:96_000]), atol=1e-6)
    step.close()


def test_an_engine_for_rtx_may_be_built_for_several_devices(
        tiny: Path, trt: FakeTensorRt, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "tensorrt", None)
    monkeypatch.setitem(sys.modules, "tensorrt_rtx", trt)
    bundle = built(tiny, tmp_path, module="tensorrt_rtx", compute_capability=["8.6", "8.7"])
    step = tensorrt.load_engine(bundle)
    assert step.executed() == {"products": {"fp32": 71}}
    step.close()


ZEROS = 64 * "0"
FOREIGN: dict[str, tuple[dict[str, object], str]] = {
    "changed": ({"sha256": ZEROS}, f"says its own SHA-256 {ZEROS}, here is "),
    "of another graph": ({"graph_sha256": ZEROS}, f"says a graph with the SHA-256 {ZEROS}, here is "),
    "of another bundle": ({"bundle_sha256": ZEROS}, f"says a bundle with the SHA-256 {ZEROS}, here is "),
    "of another TensorRT": ({"tensorrt": "10.13.3"}, r"says TensorRT 10\.13\.3, here is 10\.3\.0\."),
    "of another device": ({"compute_capability": ["11.0"]}, r"says compute capability 11\.0, here is 8\.7\."),
    "of other devices": ({"compute_capability": ["8.6", "8.9"]}, r"capability 8\.6 or 8\.9, here is 8\.7\."),
    "gone": ({"engine": "int8.engine"}, r"int8\.engine cannot be read \(No such file"),
    "without a key": ({"tensorrt": None}, r"engine\.json is damaged \(KeyError\('tensorrt'\)\)"),
    "with a wrong type": ({"executed": "all of it"}, r"engine\.json is damaged \(executed is 'all of it'\)")}


@pytest.mark.parametrize("case", FOREIGN)
def test_an_engine_that_is_not_this_bundles_on_this_machine_is_refused(
        tiny: Path, trt: FakeTensorRt, tmp_path: Path, case: str) -> None:
    changes, words = FOREIGN[case]
    with pytest.raises(BundleError, match=f"{words}.*Build it again on this board") as caught:
        tensorrt.load_engine(built(tiny, tmp_path, **changes))
    assert caught.value.exit_code == 4


@pytest.mark.parametrize("text", ["{", "[]", "null", '"text"'])
def test_a_damaged_record_is_refused(tiny: Path, tmp_path: Path, text: str) -> None:
    bundle = built(tiny, tmp_path)
    (bundle.path / RECORD).write_text(text)
    with pytest.raises(BundleError, match=r"engine\.json is damaged .*Build it again"):
        tensorrt.load_engine(bundle)


def missing(bundle: Bundle) -> str:
    with pytest.raises(SatexportError) as caught:
        tensorrt.load_engine(bundle)
    assert isinstance(caught.value, MissingError)
    return str(caught.value)


def test_a_bundle_that_has_no_engine_yet_says_how_to_build_it(tiny: Path) -> None:
    words = missing(open_bundle(tiny))
    assert words.startswith(f"{tiny} has no engine yet.")
    assert "./build.sh" in words
    assert f"satexport trt --build {tiny}" in words


def test_a_machine_without_tensorrt_or_cuda_says_what_is_missing(
        tiny: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    bundle = built(tiny, tmp_path)
    monkeypatch.setitem(sys.modules, "tensorrt", None)
    words = missing(bundle)
    assert "python3-libnvinfer" in words
    assert "--system-site-packages" in words
    monkeypatch.setitem(sys.modules, "tensorrt", FakeTensorRt)
    monkeypatch.setattr(cuda, "LIBRARIES", ("/nowhere/libcudart.so",))
    assert "/nowhere/libcudart.so" in missing(bundle)


def test_the_backend_is_imported_with_numpy_alone() -> None:
    program = ("from satexport.backends.tensorrt import step\n"
               "print(step.PACKAGE, 'tensorrt' in sys.modules)")
    root, lean = str(ROOT), (*TRAINING, "onnxruntime", "openvino", "click", "rich")
    assert python(program, without=lean, PYTHONPATH=root) == "tensorrt False\n"
