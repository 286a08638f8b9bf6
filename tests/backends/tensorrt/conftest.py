"""Engines for several test files, and a bundle to run on them."""

from __future__ import annotations

import ctypes
import gc
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from satexport.backends.tensorrt import cuda
from satexport.backends.tensorrt.cuda import Cuda
from satexport.errors import RunError
from satexport.tagging.tagger import Tagger, load
from tests.backends.tensorrt.engines import Kind, Runtime, fake_kind, real_kind
from tests.backends.tensorrt.fake_cuda import fake_cudart
from tests.backends.tensorrt.fake_tensorrt import FakeTensorRt


@pytest.fixture(scope="module")
def library(tmp_path_factory: pytest.TempPathFactory) -> ctypes.CDLL:
    return fake_cudart(tmp_path_factory.mktemp("cudart"))


@pytest.fixture
def trt(library: ctypes.CDLL, monkeypatch: pytest.MonkeyPatch) -> Iterator[FakeTensorRt]:
    """A fake TensorRT and a fake GPU on this machine."""
    monkeypatch.setattr(cuda, "LIBRARIES", (library._name,))
    fake, before = FakeTensorRt(library), library.fake_live()
    monkeypatch.setitem(sys.modules, "tensorrt", fake)
    yield fake
    library.fake_fail(b"", 0, 0)
    if library.fake_live() != before:  # a traceback may hold a stream
        gc.collect()
    assert library.fake_live() == before


@pytest.fixture(params=["thin interface", "CUDA graphs", "no CUDA graphs"])
def kind(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Kind:
    if request.param == "thin interface":
        return fake_kind()
    if request.param == "no CUDA graphs":
        def refuse(*_: object) -> int:
            raise RunError("this work cannot be captured")

        monkeypatch.setattr(Cuda, "capture", refuse)
    return real_kind(request.getfixturevalue("trt"), request.param == "CUDA graphs")


@pytest.fixture(scope="module")
def tiny_tagger(tiny: Path) -> Tagger:
    return load(tiny)


@pytest.fixture
def runtime(kind: Kind, tiny: Path) -> Iterator[Runtime]:
    runtime = Runtime(kind, tiny)
    yield runtime
    runtime.step.close()
