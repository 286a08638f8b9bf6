"""The calls to TensorRT, behind a thin interface, `Engine`, so that all the rest runs against a fake."""

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

DTYPES = {"FLOAT": "float32", "HALF": "float16", "INT8": "int8"}  # TensorRT's words and numpy's
REBUILD = ("Build it again on this board, with `satexport trt --build BUNDLE`; one for RTX with "
           "`satexport trt --rtx`.")


@dataclass(frozen=True)
class EngineTensor:
    """An input or output of an engine."""

    shape: tuple[int, ...]
    dtype: str      # numpy's name
    is_input: bool


class Engine(Protocol):
    """An engine on a device, with one queue of work: what is enqueued runs in that order. One thread at a
    time may call it. A call to the device that fails raises `RunError`, also if the work that failed was
    enqueued by an earlier call.
    """

    @property
    def captured(self) -> bool:
        """Whether the step that was prepared last is a CUDA graph. If none can be captured, its tensors are
        bound and its work is enqueued anew each time."""

    def tensors(self) -> Mapping[str, EngineTensor]:
        """Inputs and outputs by name. Does not call the device."""

    def layers(self) -> Mapping[str, Any]:
        """What the engine inspector tells of each layer, its JSON; {} if it tells nothing. Does not wait."""

    def allocate(self, size: int) -> int:
        """The address of so many bytes of device memory, whose content is undefined. They are the caller's
        until `free` or `close`."""

    def free(self, address: int) -> None:
        """Free a buffer and, with it, the steps that were prepared over it, which must not be called any
        more. Waits for the work before. Does nothing for an address that is free already."""

    def upload(self, address: int, array: NDArray[Any]) -> None:
        """Copy an array to a buffer. Waits for the copy and the work before it, so that the array may change
        afterwards."""

    def download(self, array: NDArray[Any], address: int) -> None:
        """Fill a contiguous array from a buffer. Waits for the copy and the work before it."""

    def prepare(self, addresses: Mapping[str, int]) -> Callable[[], None]:
        """A function that enqueues one step over buffers, an address for each tensor by name, and does not
        wait. It is valid until one of the buffers is freed. Waits; the step may run once meanwhile, which
        writes its outputs."""

    def close(self) -> None:
        """Free the engine, its steps and all buffers. Waits for the work before. Afterwards only `free` may
        be called, which does nothing."""


class TensorRtEngine:
    """A plan file under TensorRT, on one stream, with one execution context.

    `trt` is the module `tensorrt`, or `tensorrt_rtx` with the same calls. Raises `BundleError` for a plan
    that TensorRT cannot read, `RunError` if there is no memory to run it in.
    """

    def __init__(self, plan: Path, trt: Any, cuda: Cuda) -> None:
        self._trt, self._cuda, self._captured = trt, cuda, False
        self._log = quiet_logger(trt)  # TensorRT wants it to outlive all that follows
        self._runtime = trt.Runtime(self._log)
        self._engine = self._runtime.deserialize_cuda_engine(plan.read_bytes())
        if self._engine is None:
            raise BundleError(f"{plan}: TensorRT {trt.__version__} cannot read it: {self._log.last}. It is "
                              f"damaged, or of another version or device. {REBUILD}")
        self._context = self._engine.create_execution_context()
        if self._context is None:
            raise RunError(f"{plan}: TensorRT cannot make a context to run it in: {self._log.last}. Close "
                           "what else uses the GPU's memory.")
        self._stream = cuda.create_stream()
        self._end = weakref.finalize(self, cuda.destroy_stream, self._stream)
        self._end.atexit = False  # the process frees all, and a forked child has no CUDA to do it with
        keep_in_child(self)
        self._addresses: set[int] = set()
        self._graphs: dict[int, frozenset[int]] = {}  # with the addresses in them

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
        for graph in [graph for graph, inside in self._graphs.items() if address in inside]:
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
        enqueue()  # what TensorRT does the first time no graph may hold
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
        self._end()
        self._context = self._engine = self._runtime = None

    def _enqueue(self, addresses: Mapping[str, int]) -> None:
        for name, address in addresses.items():
            if not self._context.set_tensor_address(name, address):
                raise RunError(f"TensorRT takes no address for {name}: {self._log.last}.")
        if not self._context.execute_async_v3(self._stream):
            raise RunError(f"TensorRT cannot enqueue a step: {self._log.last}.")


def import_tensorrt(module: str) -> Any:
    """The package by its name, `tensorrt` or `tensorrt_rtx`. Raises `MissingError` where it is not here, or
    does not load."""
    try:
        return importlib.import_module(module)
    except ImportError as error:
        if not isinstance(error, ModuleNotFoundError) or error.name != module:  # a library of the driver's
            raise MissingError(f"the package {module} does not load: {error}. A container on a Jetson needs "
                               "--runtime nvidia.") from None
        advice = ("pip install 'satexport[trt]'" if module == RTX_MODULE else
                  "on a Jetson it comes with JetPack (apt install tensorrt python3-libnvinfer; a virtual "
                  "environment needs --system-site-packages)")
        raise MissingError(f"the package {module} is not installed: {advice}.") from None


def quiet_logger(trt: Any) -> Any:
    """A logger that keeps TensorRT's last error as `last`, and prints nothing."""
    class Logger(trt.ILogger):  # type: ignore[misc]
        last = "it does not say why"

        def __init__(self) -> None:
            trt.ILogger.__init__(self)

        def log(self, severity: Any, message: str) -> None:
            if severity in (trt.ILogger.INTERNAL_ERROR, trt.ILogger.ERROR):
                self.last = message.strip().rstrip(".")

    return Logger()
