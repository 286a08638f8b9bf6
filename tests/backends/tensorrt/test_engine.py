"""Engines that do not match the contract, and errors of TensorRT."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from satexport.backends.tensorrt.cuda import Cuda
from satexport.backends.tensorrt.engine import EngineTensor, TensorRtEngine
from satexport.backends.tensorrt.step import TensorRtStep
from satexport.bundle.contract import ANY
from satexport.bundle.folder import open_bundle
from satexport.errors import BundleError, RunError, UsageError
from tests.backends.tensorrt.engines import Runtime, real_kind
from tests.backends.tensorrt.fake_engine import FakeEngine
from tests.backends.tensorrt.fake_tensorrt import FakeTensorRt
from tests.bundle.copies import GRAPH

# Engines that do not match.

def test_an_engine_runs_the_number_of_streams_it_was_built_for(runtime: Runtime) -> None:
    with pytest.raises(UsageError, match=r"runs 1 streams in one step, not 2\. Export with --streams 2"):
        runtime.step.initial_cache(2)


def test_a_graph_for_any_number_of_streams_is_no_engine(tiny: Path) -> None:
    bundle = open_bundle(tiny)
    contract = replace(bundle.contract, options=replace(bundle.contract.options, streams=ANY))
    with pytest.raises(BundleError, match=r"any number of streams.*--streams N"):
        TensorRtStep(FakeEngine(bundle.graph.read_bytes()), contract, ())


CACHE = "cache_in_01"
WRONG: dict[str, tuple[dict[str, Any], str]] = {
    "absent": ({CACHE: None}, "the engine's tensor cache_in_01 is missing, expected EngineTensor"),
    "foreign": ({"mask": EngineTensor((1,), "float32", True)}, "a tensor mask, which is not in the contract"),
    "shape": ({CACHE: {"shape": (1, 2)}}, r"shape=\(1, 2\).*expected .*shape=\(1, \d+, \d+, \d+\)"),
    "direction": ({CACHE: {"is_input": False}}, "is_input=False.*expected .*is_input=True"),
    "dtype": ({CACHE: {"dtype": "int8"}}, "dtype='int8'.*expected .*dtype='float32'"),
    "two dtypes": ({CACHE: {"dtype": "float16"}}, "cache_in_01 in float16 and cache_out_01 in float32")}


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


# Errors of TensorRT.

def test_a_plan_that_tensorrt_cannot_read_says_why_and_what_to_do(
        trt: FakeTensorRt, tmp_path: Path) -> None:
    (tmp_path / "fp16.engine").write_bytes(b"damaged")
    with pytest.raises(BundleError, match=r"TensorRT 10\.3\.0 cannot read it: the magic tag does not match\. "
                                          r"It is damaged, .*another.*Build the engine again on this board"):
        TensorRtEngine(tmp_path / "fp16.engine", trt, Cuda())


REFUSED = {"context": "cannot create an execution context: TensorRT gives no reason",
           "address": "cannot bind the tensor audio: TensorRT gives no reason",
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
    with pytest.raises(BundleError, match=r"the engine.s tensor audio is .*BF16"):
        Runtime(real_kind(trt, True), tiny)
