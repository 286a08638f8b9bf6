"""A fake engine on host memory: ONNX Runtime in place of TensorRT and its GPU."""

from __future__ import annotations

import ctypes
from collections.abc import Callable, Mapping
from functools import cache, partial
from math import prod
from typing import Any

import numpy as np
import onnxruntime
from numpy.typing import NDArray

from satexport.backends.tensorrt.engine import EngineTensor
from satexport.errors import RunError


def memory(address: int, shape: tuple[int, ...], dtype: str) -> NDArray[Any]:
    """A view of the memory at an address as an array."""
    size = prod(shape) * np.dtype(dtype).itemsize
    found: NDArray[Any] = np.ndarray(shape, dtype, memoryview((ctypes.c_char * size).from_address(address)))
    return found


class Graph:
    """A graph whose tensors are read from and written to addresses, in an engine's dtypes."""

    def __init__(self, content: bytes, dtype: str = "float32") -> None:
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = 1
        self._session = onnxruntime.InferenceSession(content, options, providers=["CPUExecutionProvider"])
        self._given, self._taken = self._session.get_inputs(), self._session.get_outputs()
        self.tensors: dict[str, EngineTensor] = {
            info.name: EngineTensor(tuple(info.shape), dtype, info in self._given)
            for info in (*self._given, *self._taken)}

    def run(self, addresses: Mapping[str, int]) -> None:
        arrays = {name: memory(addresses[name], t.shape, t.dtype) for name, t in self.tensors.items()}
        results = self._session.run(None, {i.name: arrays[i.name].astype(np.float32) for i in self._given})
        for info, result in zip(self._taken, results, strict=True):
            arrays[info.name][:] = result


graph_of = cache(Graph)


class FakeEngine:
    """The `Engine` interface on host memory. Steps run when a call waits for them; new memory is NaN."""

    def __init__(self, content: bytes, dtype: str = "float32") -> None:
        self.graph, self.buffers = graph_of(content, dtype), dict[int, "ctypes.Array[ctypes.c_char]"]()
        self.bound: list[dict[str, int]] = []
        self.waiting: list[Mapping[str, int]] = []
        self.fails, self.information = False, dict[str, Any]()

    @property
    def captured(self) -> bool:
        return False

    def layers(self) -> Mapping[str, Any]:
        return self.information

    def tensors(self) -> Mapping[str, EngineTensor]:
        return self.graph.tensors

    def allocate(self, size: int) -> int:
        if self.fails:
            raise RunError("out of memory")
        buffer = ctypes.create_string_buffer(b"\xff" * size, size)
        self.buffers[ctypes.addressof(buffer)] = buffer
        return ctypes.addressof(buffer)

    def free(self, address: int) -> None:
        self._wait()
        self.buffers.pop(address, None)

    def upload(self, address: int, array: NDArray[Any]) -> None:
        self._wait()
        assert any(start <= address and address + array.nbytes <= start + len(buffer)
                   for start, buffer in self.buffers.items())
        memory(address, array.shape, array.dtype.name)[:] = array

    def download(self, array: NDArray[Any], address: int) -> None:
        self._wait()
        array[:] = memory(address, array.shape, array.dtype.name)

    def prepare(self, addresses: Mapping[str, int]) -> Callable[[], None]:
        self.bound.append(dict(addresses))
        self.graph.run(addresses)
        return partial(self._enqueue, dict(addresses))

    def close(self) -> None:
        self.buffers.clear()

    def _enqueue(self, addresses: Mapping[str, int]) -> None:
        if self.fails:
            raise RunError("the engine cannot enqueue a step")
        assert set(addresses.values()) <= set(self.buffers)
        self.waiting.append(addresses)

    def _wait(self) -> None:
        while self.waiting:
            self.graph.run(self.waiting.pop(0))


def layer(kind: str, reads: str, gives: str, key: str = "Format/Datatype") -> dict[str, Any]:
    """A layer as the engine inspector describes it."""
    return {"Name": "a", "LayerType": kind, "Inputs": [{key: reads}], "Outputs": [{key: gives}]}
