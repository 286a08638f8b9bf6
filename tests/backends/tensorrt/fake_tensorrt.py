"""The parts of TensorRT's API that satexport uses, on the fake CUDA runtime."""

from __future__ import annotations

import ctypes
from functools import partial
from types import SimpleNamespace
from typing import Any

from tests.backends.tensorrt.fake_cuda import KERNEL
from tests.backends.tensorrt.fake_engine import graph_of


class FakeTensorRt:
    """The module `tensorrt`: a plan is an ONNX file, and a step is a kernel on the fake CUDA stream."""

    __version__ = "10.3.0"
    TensorIOMode = SimpleNamespace(INPUT="input", OUTPUT="output")
    LayerInformationFormat = SimpleNamespace(ONELINE=0, JSON=1)

    class ILogger:
        INTERNAL_ERROR, ERROR, WARNING = range(3)

    def __init__(self, library: ctypes.CDLL) -> None:
        self.library = library
        self.refused = ""  # name of the call that fails
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
