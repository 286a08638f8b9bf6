"""Tests that need any CUDA GPU; they are skipped, with the reason, if there is none. They show nothing about
a Jetson."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnxruntime
import pytest

from satexport.backends.backend import LoadOptions, find_backend
from satexport.backends.tensorrt.cuda import Cuda
from satexport.bundle.folder import open_bundle
from satexport.errors import MissingError
from satexport.pipeline.build import compile_bundle
from satexport.pipeline.plan import BuildOptions
from satexport.step import FloatArray
from satexport.tagging.tagger import Tagger
from satexport.targets import find_target
from tests.tiny import FEW

CUDA = "CUDAExecutionProvider"
ON_DEVICE = 3  # of cudaMemcpyKind


@pytest.fixture(scope="module")
def cuda() -> Cuda:
    try:
        return Cuda()
    except MissingError as error:
        pytest.skip(f"needs a CUDA GPU: {error}")


def test_arrays_come_back_from_device_memory_as_they_went(cuda: Cuda) -> None:
    stream = cuda.create_stream()
    free, total = cuda.memory_info()
    assert 0 < free <= total
    array = np.random.default_rng(0).standard_normal((3, 1000)).astype(np.float32)
    address = cuda.malloc(array.nbytes)
    cuda.upload(address, array, stream)
    found = np.empty_like(array)
    cuda.download(found, address, stream)
    np.testing.assert_array_equal(found, array)
    cuda.free(address)
    cuda.destroy_stream(stream)


def test_a_recorded_copy_runs_when_it_is_launched_and_not_before(cuda: Cuda) -> None:
    stream, array = cuda.create_stream(), np.arange(1000, dtype=np.float32)
    source, target = cuda.malloc(array.nbytes), cuda.malloc(array.nbytes)
    cuda.upload(source, array, stream)
    cuda.upload(target, np.zeros_like(array), stream)
    graph = cuda.capture(stream, lambda: cuda._call(
        "cudaMemcpyAsync", target, source, array.nbytes, ON_DEVICE, stream))
    found = np.empty_like(array)
    cuda.download(found, target, stream)
    assert not found.any()
    cuda.launch(graph, stream)
    cuda.download(found, target, stream)
    np.testing.assert_array_equal(found, array)
    cuda.destroy_graph(graph)
    for address in (source, target):
        cuda.free(address)
    cuda.destroy_stream(stream)


@pytest.mark.parametrize("precision", ["int8", "fp16"])
def test_the_graphs_score_on_a_gpu_as_on_the_cpu(
        cuda: Cuda, precision: str, demo: Path, tmp_path: Path, audio: FloatArray) -> None:
    if CUDA not in onnxruntime.get_available_providers():
        pytest.skip("needs onnxruntime-gpu")
    path = compile_bundle(open_bundle(demo), find_target("jetson-orin-nano"), tmp_path,
                          BuildOptions(calibration=FEW)).path
    bundle = open_bundle(path)
    step = find_backend("tensorrt").candidates(bundle, LoadOptions())[precision].step
    expected = Tagger(bundle, step).stream().feed(audio[:416_000])
    session = onnxruntime.InferenceSession(path / f"{precision}.onnx", providers=[CUDA])
    contract = bundle.contract
    caches = dict(zip((spec.name for spec in contract.cache_in), bundle.initial_cache(), strict=True))
    found = []
    for chunk in audio[:416_000].reshape(13, 1, 32_000):
        scores, *new = session.run(None, {contract.input.name: chunk, **caches})
        caches = dict(zip(caches, new, strict=True))
        found.append(scores[0])
    assert np.abs(np.stack(found) - expected).max() < (0.05 if precision == "int8" else 0.005)
