"""What the tests of a step run on: an engine over host memory, or the real one over fakes of TensorRT and of
CUDA."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

from satexport.backends.tensorrt.cuda import Cuda
from satexport.backends.tensorrt.engine import Engine, TensorRtEngine
from satexport.backends.tensorrt.step import TensorRtStep
from satexport.bundle.folder import open_bundle
from satexport.tagging.stream import Stream
from tests.backends.tensorrt.fake_engine import FakeEngine
from tests.backends.tensorrt.fake_tensorrt import FakeTensorRt


class Kind(NamedTuple):
    engine: Callable[[Path], Engine]
    fail: Callable[[Engine, bool], None]   # have each step fail from now on, or no more
    live: Callable[[Engine], int]          # buffers and what else is held


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
