"""The CUDA runtime 12 and 13 through ctypes: device memory, streams and CUDA graphs. Needs no package except
numpy.

Everything uses device 0. A failed call raises `RunError` with the name of the call and CUDA's message, or
`MissingError` if there is no GPU.
"""

from __future__ import annotations

import ctypes
from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from satexport.errors import MissingError, RunError

LIBRARIES = ("libcudart.so", "libcudart.so.12", "libcudart.so.13", "/usr/local/cuda/lib64/libcudart.so")
OLDEST = 12_000             # 1000 * major + 10 * minor; cudaGraphInstantiate has other arguments in CUDA 11
NO_GPU = {35, 100}          # cudaErrorInsufficientDriver, cudaErrorNoDevice
HINTS = {                   # cudaErrorMemoryAllocation, IllegalAddress, LaunchFailure
    2: "Close other programs that use the GPU's memory, or run fewer streams.",
    700: "This process can no longer use the GPU: start it again.",
    719: "This process can no longer use the GPU: start it again."}
TO_DEVICE, TO_HOST = 1, 2   # of cudaMemcpyKind
NON_BLOCKING = 1            # a stream that is not synchronised with the legacy default stream
THREAD_LOCAL = 1            # of cudaStreamCaptureMode: unsafe calls of other threads do not end a capture
CAPABILITY_MAJOR, CAPABILITY_MINOR = 75, 76  # of cudaDeviceAttr

_HANDLE = ctypes.c_void_p
_INT = ctypes.c_int
_SIZE = ctypes.c_size_t
_HANDLE_OUT = ctypes.POINTER(_HANDLE)
_INT_OUT = ctypes.POINTER(_INT)
_SIZE_OUT = ctypes.POINTER(_SIZE)
SIGNATURES: dict[str, tuple[Any, ...]] = {  # all return a cudaError_t
    "cudaRuntimeGetVersion": (_INT_OUT,),
    "cudaGetDeviceCount": (_INT_OUT,),
    "cudaDeviceGetAttribute": (_INT_OUT, _INT, _INT),
    "cudaGetLastError": (),
    "cudaMemGetInfo": (_SIZE_OUT, _SIZE_OUT),
    "cudaMalloc": (_HANDLE_OUT, _SIZE),
    "cudaFree": (_HANDLE,),
    "cudaMemcpyAsync": (_HANDLE, _HANDLE, _SIZE, _INT, _HANDLE),
    "cudaStreamCreateWithFlags": (_HANDLE_OUT, ctypes.c_uint),
    "cudaStreamSynchronize": (_HANDLE,),
    "cudaStreamDestroy": (_HANDLE,),
    "cudaStreamBeginCapture": (_HANDLE, _INT),
    "cudaStreamEndCapture": (_HANDLE, _HANDLE_OUT),
    "cudaGraphInstantiate": (_HANDLE_OUT, _HANDLE, ctypes.c_ulonglong),
    "cudaGraphDestroy": (_HANDLE,),
    "cudaGraphLaunch": (_HANDLE, _HANDLE),
    "cudaGraphExecDestroy": (_HANDLE,),
}


class Cuda:
    """Calls of the CUDA runtime, with addresses, streams and CUDA graphs as plain integers.

    Raises `MissingError` if the library or a GPU is missing, or CUDA is too old.
    """

    def __init__(self) -> None:
        self._library = _library()
        if (version := self.version()) < OLDEST:
            raise MissingError(f"the CUDA runtime is {_format_version(version)}, expected "
                               f"{_format_version(OLDEST)} or newer (JetPack 6). Install a newer JetPack or "
                               "CUDA.")
        if not self.device_count():
            raise MissingError("no CUDA GPU: the CUDA runtime finds none. Run this on the board; start a "
                               "container with --runtime nvidia.")

    def version(self) -> int:
        """Return the version of the runtime as 1000 * major + 10 * minor: 12060 is 12.6."""
        return self._read_int("cudaRuntimeGetVersion")

    def device_count(self) -> int:
        return self._read_int("cudaGetDeviceCount")

    def compute_capability(self) -> str:
        """Return the compute capability of device 0, such as "8.7" for an Orin."""
        major, minor = (self._read_int("cudaDeviceGetAttribute", attribute, 0)
                        for attribute in (CAPABILITY_MAJOR, CAPABILITY_MINOR))
        return f"{major}.{minor}"

    def memory_info(self) -> tuple[int, int]:
        """Return the free and the total memory, bytes. The GPU and CPU of a Jetson share it."""
        free, total = ctypes.c_size_t(), ctypes.c_size_t()
        self._call("cudaMemGetInfo", ctypes.byref(free), ctypes.byref(total))
        return free.value, total.value

    def malloc(self, size: int) -> int:
        """Allocate `size` bytes with undefined content; returns the address."""
        return self._create("cudaMalloc", size)

    def free(self, address: int) -> None:
        self._call("cudaFree", address)

    def upload(self, address: int, array: NDArray[Any], stream: int) -> None:
        """Copy an array to the device. Blocks until the copy is finished: the array may change afterwards."""
        array = np.ascontiguousarray(array)
        self._call("cudaMemcpyAsync", address, array.ctypes.data, array.nbytes, TO_DEVICE, stream)
        self.synchronize(stream)

    def download(self, array: NDArray[Any], address: int, stream: int) -> None:
        """Fill a contiguous array from the device. Blocks until the copy and earlier work are finished."""
        assert array.flags.c_contiguous
        self._call("cudaMemcpyAsync", array.ctypes.data, address, array.nbytes, TO_HOST, stream)
        self.synchronize(stream)

    def create_stream(self) -> int:
        return self._create("cudaStreamCreateWithFlags", NON_BLOCKING)

    def synchronize(self, stream: int) -> None:
        """Block until all work is finished. Raises the error of work that was enqueued earlier."""
        self._call("cudaStreamSynchronize", stream)

    def destroy_stream(self, stream: int) -> None:
        self._call("cudaStreamDestroy", stream)

    def capture(self, stream: int, enqueue: Callable[[], None]) -> int:
        """Capture the work that `enqueue` puts on a stream, without running it; returns a graph to launch and
        to destroy. Passes on what `enqueue` raises, and then leaves the stream as it was."""
        self._call("cudaStreamBeginCapture", stream, THREAD_LOCAL)
        graph = ctypes.c_void_p()
        try:
            try:
                enqueue()
            except BaseException:
                self._library.cudaStreamEndCapture(stream, ctypes.byref(graph))
                self._library.cudaGetLastError()
                raise
            self._call("cudaStreamEndCapture", stream, ctypes.byref(graph))
            return self._create("cudaGraphInstantiate", graph, 0)
        finally:
            if graph:
                self._call("cudaGraphDestroy", graph)

    def launch(self, graph: int, stream: int) -> None:
        self._call("cudaGraphLaunch", graph, stream)

    def destroy_graph(self, graph: int) -> None:
        self._call("cudaGraphExecDestroy", graph)

    def _read_int(self, name: str, *arguments: Any) -> int:
        """Call a function that writes an int to its first argument; returns the int."""
        value = ctypes.c_int()
        self._call(name, ctypes.byref(value), *arguments)
        return value.value

    def _create(self, name: str, *arguments: Any) -> int:
        """Call a function that writes a handle to its first argument; returns the handle."""
        handle = ctypes.c_void_p()
        self._call(name, ctypes.byref(handle), *arguments)
        return handle.value or 0

    def _call(self, name: str, *arguments: Any) -> None:
        code = getattr(self._library, name)(*arguments)
        if not code:
            return
        message = self._library.cudaGetErrorString(code).decode()
        self._library.cudaGetLastError()  # reset it, or a later call reports it again
        if code in NO_GPU:
            raise MissingError(f"no CUDA GPU: {name} reports {message}. Run this on the board, with the "
                               "driver that its CUDA needs; start a container with --runtime nvidia.")
        hint = f" {HINTS[code]}" if code in HINTS else ""
        raise RunError(f"CUDA: {name} failed: {message} (error {code}).{hint}")


def _library() -> ctypes.CDLL:
    """Load the first of LIBRARIES that exists and declare its functions. Raises `MissingError` if there is
    none."""
    for name in LIBRARIES:
        try:
            library = ctypes.CDLL(name)
            for call, arguments in SIGNATURES.items():
                function = getattr(library, call)
                function.argtypes, function.restype = arguments, ctypes.c_int
            library.cudaGetErrorString.argtypes = (ctypes.c_int,)
            library.cudaGetErrorString.restype = ctypes.c_char_p
        except (OSError, AttributeError):  # not found; found, but not a CUDA runtime
            continue
        return library
    raise MissingError(f"the CUDA runtime is not on this machine: none of {', '.join(LIBRARIES)} loads. On a "
                       "Jetson it comes with JetPack (sudo apt install nvidia-jetpack); elsewhere add its "
                       "folder to LD_LIBRARY_PATH.")


def _format_version(version: int) -> str:
    return f"{version // 1000}.{version % 1000 // 10}"
