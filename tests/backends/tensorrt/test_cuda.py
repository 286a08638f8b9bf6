"""The CUDA calls through ctypes, tested with a fake CUDA runtime on host memory."""

from __future__ import annotations

import ctypes
import ctypes.util
from collections.abc import Callable, Iterator

import numpy as np
import pytest

from satexport.backends.tensorrt import cuda
from satexport.backends.tensorrt.cuda import Cuda
from satexport.errors import MissingError, RunError
from tests.backends.tensorrt.fake_cuda import KERNEL


@pytest.fixture
def fake(library: ctypes.CDLL, monkeypatch: pytest.MonkeyPatch) -> Iterator[ctypes.CDLL]:
    """The fake as the first of the libraries. A test must destroy whatever it creates."""
    monkeypatch.setattr(cuda, "LIBRARIES", (library._name, *cuda.LIBRARIES))
    before = library.fake_live()
    yield library
    library.fake_fail(b"", 0, 0)
    library.fake_set(12060, 1)
    assert library.fake_live() == before


def test_the_machine_says_what_it_has(fake: ctypes.CDLL) -> None:
    runtime = Cuda()
    assert (runtime.version(), runtime.device_count(), runtime.compute_capability()) == (12060, 1, "8.7")
    assert runtime.memory_info() == (5 << 30, 8 << 30)


def test_an_array_comes_back_as_it_was_sent(fake: ctypes.CDLL) -> None:
    runtime = Cuda()
    stream, sent = runtime.create_stream(), np.arange(24, dtype=np.float32).reshape(4, 6)
    address, found = runtime.malloc(sent.nbytes), np.empty((6, 4), np.float32)
    runtime.upload(address, sent.T, stream)  # not contiguous
    runtime.download(found, address, stream)
    np.testing.assert_array_equal(found, sent.T)
    runtime.free(address)
    runtime.destroy_stream(stream)


def test_captured_work_runs_when_it_is_launched_and_each_time(fake: ctypes.CDLL) -> None:
    runtime, runs = Cuda(), list[int]()
    stream, kernel = runtime.create_stream(), KERNEL(lambda _: runs.append(1))
    graph = runtime.capture(stream, lambda: fake.fake_enqueue(stream, kernel, None))
    assert not runs
    for number in (1, 2):
        runtime.launch(graph, stream)
        assert len(runs) == number
    runtime.destroy_graph(graph)
    runtime.destroy_stream(stream)


@pytest.mark.parametrize("name", ["cudaStreamBeginCapture", "cudaStreamEndCapture", "cudaGraphInstantiate"])
def test_a_capture_that_fails_leaves_the_stream_as_it_was(fake: ctypes.CDLL, name: str) -> None:
    runtime = Cuda()
    stream = runtime.create_stream()
    fake.fake_fail(name.encode(), 901, 0)
    with pytest.raises(RunError, match=rf"CUDA: {name} failed: .*previous error.* \(error 901\)\."):
        runtime.capture(stream, lambda: None)
    runtime.destroy_graph(runtime.capture(stream, lambda: None))
    runtime.destroy_stream(stream)


def test_what_the_captured_work_raises_is_raised_and_the_stream_is_as_it_was(fake: ctypes.CDLL) -> None:
    runtime = Cuda()
    stream = runtime.create_stream()

    def refuse() -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        runtime.capture(stream, refuse)
    runtime.synchronize(stream)
    runtime.destroy_stream(stream)


CALLS: dict[str, Callable[[Cuda, int], object]] = {
    "cudaRuntimeGetVersion": lambda runtime, _: runtime.version(),
    "cudaGetDeviceCount": lambda runtime, _: runtime.device_count(),
    "cudaDeviceGetAttribute": lambda runtime, _: runtime.compute_capability(),
    "cudaMemGetInfo": lambda runtime, _: runtime.memory_info(),
    "cudaMalloc": lambda runtime, _: runtime.malloc(1),
    "cudaFree": lambda runtime, _: runtime.free(0),
    "cudaMemcpyAsync": lambda runtime, stream: runtime.upload(0, np.zeros(1), stream),
    "cudaStreamCreateWithFlags": lambda runtime, _: runtime.create_stream(),
    "cudaStreamSynchronize": lambda runtime, stream: runtime.synchronize(stream),
    "cudaGraphLaunch": lambda runtime, stream: runtime.launch(0, stream),
    "cudaGraphExecDestroy": lambda runtime, _: runtime.destroy_graph(0)}


@pytest.mark.parametrize("name", CALLS)
def test_a_call_that_fails_is_named_with_cudas_own_words(fake: ctypes.CDLL, name: str) -> None:
    runtime = Cuda()
    stream = runtime.create_stream()
    fake.fake_fail(name.encode(), 1, 0)
    with pytest.raises(RunError, match=rf"CUDA: {name} failed: invalid argument \(error 1\)\.$"):
        CALLS[name](runtime, stream)
    assert fake.cudaGetLastError() == 0  # and no later call reports it again
    runtime.destroy_stream(stream)


def test_an_error_that_a_user_can_mend_says_how(fake: ctypes.CDLL) -> None:
    runtime = Cuda()
    fake.fake_fail(b"cudaMalloc", 2, 0)
    with pytest.raises(RunError, match=r"out of memory \(error 2\)\. Close other programs"):
        runtime.malloc(1 << 40)
    fake.fake_fail(b"cudaMemGetInfo", 700, 0)
    with pytest.raises(RunError, match=r"illegal memory access.*This process can no longer use the GPU"):
        runtime.memory_info()


@pytest.mark.parametrize(("code", "words"), [(100, "no CUDA-capable device"), (35, "is insufficient")])
def test_a_machine_without_a_gpu_or_its_driver_says_so(fake: ctypes.CDLL, code: int, words: str) -> None:
    fake.fake_fail(b"cudaGetDeviceCount", code, 0)
    with pytest.raises(MissingError, match=f"no CUDA GPU: .*Count reports .*{words}.*on the board"):
        Cuda()


def test_a_count_of_no_devices_is_a_machine_without_a_gpu(fake: ctypes.CDLL) -> None:
    fake.fake_set(12060, 0)
    with pytest.raises(MissingError, match="no CUDA GPU: the CUDA runtime finds none"):
        Cuda()


def test_a_cuda_that_is_too_old_is_refused(fake: ctypes.CDLL) -> None:
    fake.fake_set(11040, 1)
    with pytest.raises(MissingError, match=r"is 11\.4, expected 12\.0 or newer"):
        Cuda()
    fake.fake_set(13000, 1)
    assert Cuda().version() == 13000


def test_without_the_library_it_says_what_was_looked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    foreign = ctypes.util.find_library("c") or "libc.so.6"
    monkeypatch.setattr(cuda, "LIBRARIES", (foreign, "/nowhere/libcudart.so"))
    with pytest.raises(MissingError, match=r"none of .*, /nowhere/libcudart\.so loads.*JetPack") as caught:
        Cuda()
    assert caught.value.exit_code == 3
