"""The calls to TensorRT behind a thin interface, `Engine`, so that other code can be tested with a fake."""

from __future__ import annotations

import importlib
import json
import weakref
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Protocol

from numpy.typing import NDArray

from satexport.backends.tensorrt.cuda import Cuda
from satexport.backends.tensorrt.settings import RTX_MODULE
from satexport.errors import BundleError, MissingError, RunError
from satexport.process import keep_in_child

DTYPES = {"FLOAT": "float32", "HALF": "float16", "INT8": "int8"}  # TensorRT's name -> numpy's name
REBUILD = ("Build the engine again on this board with `satexport trt --build BUNDLE`, or one for RTX with "
           "`satexport trt --rtx`.")


@dataclass(frozen=True)
class EngineTensor:
    """An input or output of an engine."""

    shape: tuple[int, ...]
    dtype: str      # numpy's name
    is_input: bool


class Engine(Protocol):
    """An engine on a device with one CUDA stream, which runs work in the order in which it was enqueued.

    Only one thread at a time may call an engine. A failed call to the device raises `RunError`; the failed
    work may have been enqueued by an earlier call.
    """

    @property
    def captured(self) -> bool:
        """Whether the last prepared step is a CUDA graph. If it could not be captured, every call binds its
        tensors and enqueues its work again."""

    def tensors(self) -> Mapping[str, EngineTensor]:
        """Return the inputs and outputs by name. Does not call the device."""

    def layers(self) -> Mapping[str, Any]:
        """Return the JSON of the engine inspector, which lists the layers; {} if there is none. Does not
        block."""

    def allocate(self, size: int) -> int:
        """Allocate `size` bytes of device memory with undefined content and return the address. The caller
        owns them until `free` or `close`."""

    def free(self, address: int) -> None:
        """Free a buffer and all steps that were prepared with it, which must not be called afterwards. Blocks
        until earlier work is finished. Does nothing if the address was freed before."""

    def upload(self, address: int, array: NDArray[Any]) -> None:
        """Copy an array to a buffer. Blocks until the copy and all earlier work are finished: the caller may
        change the array afterwards."""

    def download(self, array: NDArray[Any], address: int) -> None:
        """Fill a contiguous array from a buffer. Blocks until the copy and all earlier work are finished."""

    def prepare(self, addresses: Mapping[str, int]) -> Callable[[], None]:
        """Return a function that enqueues one step with these buffers, an address for each tensor by name,
        and does not block. It is valid until one of the buffers is freed. `prepare` itself blocks, and may
        run the step once, which writes the outputs."""

    def close(self) -> None:
        """Free the engine, its steps and all buffers. Blocks until earlier work is finished. Afterwards only
        `free` may be called, which does nothing."""


class TensorRtEngine:
    """A serialised engine (plan) with one execution context and one CUDA stream.

    `trt` is the module `tensorrt` or `tensorrt_rtx`, which have the same API. Raises `BundleError` if
    TensorRT cannot read the plan, `RunError` if there is not enough memory to run it.
    """

    def __init__(self, plan: Path, trt: Any, cuda: Cuda) -> None:
        self._trt, self._cuda, self._captured = trt, cuda, False
        self._log = quiet_logger(trt)  # must outlive all other TensorRT objects
        self._runtime = trt.Runtime(self._log)
        self._engine = self._runtime.deserialize_cuda_engine(plan.read_bytes())
        if self._engine is None:
            raise BundleError(f"{plan}: TensorRT {trt.__version__} cannot read it: {self._log.last}. It is "
                              f"damaged, or was built by another version or for another device. {REBUILD}")
        self._context = self._engine.create_execution_context()
        if self._context is None:
            raise RunError(f"{plan}: TensorRT cannot create an execution context: {self._log.last}. Close "
                           "other programs that use the GPU's memory.")
        self._stream = cuda.create_stream()
        self._destroy_stream = weakref.finalize(self, cuda.destroy_stream, self._stream)
        self._destroy_stream.atexit = False  # the end of the process frees it; a forked child cannot use CUDA
        keep_in_child(self)
        self._addresses: set[int] = set()
        self._graphs: dict[int, frozenset[int]] = {}  # CUDA graph -> addresses of its buffers

    @property
    def captured(self) -> bool:
        return self._captured

    def tensors(self) -> dict[str, EngineTensor]:
        engine, tensors = self._engine, {}
        for name in map(engine.get_tensor_name, range(engine.num_io_tensors)):
            dtype = engine.get_tensor_dtype(name).name
            tensors[name] = EngineTensor(tuple(engine.get_tensor_shape(name)), DTYPES.get(dtype, dtype),
                                         engine.get_tensor_mode(name) == self._trt.TensorIOMode.INPUT)
        return tensors

    def layers(self) -> Mapping[str, Any]:
        inspector = self._engine.create_engine_inspector()
        text = inspector.get_engine_information(self._trt.LayerInformationFormat.JSON)
        try:
            information = json.loads(text)
        except (TypeError, ValueError):
            return {}
        return information if isinstance(information, dict) else {}

    def allocate(self, size: int) -> int:
        address = self._cuda.malloc(size)
        self._addresses.add(address)
        return address

    def free(self, address: int) -> None:
        for graph in [graph for graph, addresses in self._graphs.items() if address in addresses]:
            del self._graphs[graph]
            self._cuda.destroy_graph(graph)
        if address in self._addresses:
            self._addresses.remove(address)
            self._cuda.free(address)

    def upload(self, address: int, array: NDArray[Any]) -> None:
        self._cuda.upload(address, array, self._stream)

    def download(self, array: NDArray[Any], address: int) -> None:
        self._cuda.download(array, address, self._stream)

    def prepare(self, addresses: Mapping[str, int]) -> Callable[[], None]:
        enqueue = partial(self._enqueue, addresses)
        enqueue()  # the first run initialises TensorRT, which cannot be captured
        self._cuda.synchronize(self._stream)
        try:
            graph = self._cuda.capture(self._stream, enqueue)
        except RunError:
            self._captured = False
            return enqueue
        self._captured = True
        self._graphs[graph] = frozenset(addresses.values())
        return partial(self._cuda.launch, graph, self._stream)

    def close(self) -> None:
        for address in list(self._addresses):
            self.free(address)
        self._destroy_stream()
        self._context = self._engine = self._runtime = None

    def _enqueue(self, addresses: Mapping[str, int]) -> None:
        for name, address in addresses.items():
            if not self._context.set_tensor_address(name, address):
                raise RunError(f"TensorRT cannot bind the tensor {name}: {self._log.last}.")
        if not self._context.execute_async_v3(self._stream):
            raise RunError(f"TensorRT cannot enqueue a step: {self._log.last}.")


def import_tensorrt(module: str) -> Any:
    """Import the package `tensorrt` or `tensorrt_rtx`. Raises `MissingError` if it is not installed or does
    not load."""
    try:
        return importlib.import_module(module)
    except ImportError as error:
        if not isinstance(error, ModuleNotFoundError) or error.name != module:  # a driver library is missing
            raise MissingError(f"the package {module} does not load: {error}. A container on a Jetson needs "
                               "--runtime nvidia.") from None
        advice = ("pip install 'satexport[trt]'" if module == RTX_MODULE else
                  "on a Jetson it comes with JetPack (apt install tensorrt python3-libnvinfer; a virtual "
                  "environment needs --system-site-packages)")
        raise MissingError(f"the package {module} is not installed: {advice}.") from None


def quiet_logger(trt: Any) -> Any:
    """Create a logger that prints nothing and keeps TensorRT's last error in `last`."""
    class Logger(trt.ILogger):  # type: ignore[misc]
        last = "TensorRT gives no reason"

        def __init__(self) -> None:
            trt.ILogger.__init__(self)

        def log(self, severity: Any, message: str) -> None:
            if severity in (trt.ILogger.INTERNAL_ERROR, trt.ILogger.ERROR):
                self.last = message.strip().rstrip(".")

    return Logger()
