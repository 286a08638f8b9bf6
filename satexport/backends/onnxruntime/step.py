"""ONNX Runtime on a CPU.

Inputs and outputs are bound once. Each cache is bound to two buffers that swap roles after every step, so
no step allocates or copies a cache. A graph for any number of streams runs them in groups, one after the
other, which is faster than all at once and needs less memory.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from satexport.bundle.contract import ANY, Contract, check_tensors
from satexport.errors import BundleError, MissingError, RunError
from satexport.origin import read_cpu
from satexport.pages import huge_pages, release_libraries
from satexport.process import ProcessBound, keep_in_child
from satexport.runtimes import check_version, import_runtime
from satexport.step import FloatArray, Outputs

PACKAGE = "onnxruntime"
MIN_VERSION = 1, 20  # same as in the extra `cpu`
EXACT = {  # options for a CPU whose sums of products saturate
    "session.x64quantprecision": "1",  # weights of 8 bits become uint8, whose products are summed in 32 bits
    "session.disable_quant_qdq": "1"}  # products between Q/DQ nodes are computed in float
GROUP = 8            # streams of a graph for any number that run at a time: larger groups leave the CPU cache


@dataclass(frozen=True, kw_only=True)
class BoundCache:
    """The cache of one group of streams, with the buffers and bindings of the next two steps."""

    now: list[NDArray[Any]]    # the cache, which the next step reads
    spare: list[NDArray[Any]]  # buffers into which that step writes the new cache
    step: Any                  # binding that reads `now` and writes `spare`
    next_step: Any             # binding that reads `spare` and writes `now`
    x: FloatArray              # input buffer of both bindings
    outputs: list[FloatArray]  # buffers for `Contract.outputs` of both bindings

    def swap(self) -> BoundCache:
        """Return the cache after a step: the buffers and bindings with their roles swapped."""
        return BoundCache(now=self.spare, spare=self.now, step=self.next_step, next_step=self.step, x=self.x,
                          outputs=self.outputs)


def make_options(threads: int | None) -> Any:
    """Return the session options of a step; None for `threads`: all cores."""
    onnxruntime = import_runtime(PACKAGE)
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads or 0
    # in the default order the nodes that write caches come last, and what they read is kept until then
    options.execution_order = onnxruntime.ExecutionOrder.PRIORITY_BASED
    options.enable_mem_pattern = False  # saves 3 MB with the largest model, and is not slower
    return options


class OnnxRuntimeStep(ProcessBound):
    """A graph under ONNX Runtime.

    `cache` is the initial cache of a single stream, in the order of the contract; it is read again each
    time streams start. With `threads` None, ONNX Runtime uses all cores. `low_memory` frees each tensor as
    soon as it is no longer needed. `optimized=False` turns graph optimisation off, so that ONNX Runtime
    computes the graph node by node. With `spinning`, its threads use their cores for about 40 ms while they
    wait for work; otherwise they sleep, which is also faster if PyTorch's threads use the same cores
    (parity: 1.7 times faster on two cores). `weights` has the constants that a graph of bytes declares as
    external data, by name; they are not copied."""

    def __init__(self, graph: Path | bytes, contract: Contract, cache: Iterable[NDArray[Any]],
                 threads: int | None = None, *, low_memory: bool = False, optimized: bool = True,
                 spinning: bool = False, weights: Mapping[str, NDArray[Any]] | None = None) -> None:
        try:
            onnxruntime = import_runtime(PACKAGE)
        except ImportError:
            raise MissingError("ONNX Runtime is not installed: "
                               "pip install 'satexport[cpu]'.") from None
        super().__init__()
        check_version("ONNX Runtime", onnxruntime.__version__, MIN_VERSION, "cpu")
        options = make_options(threads)
        options.enable_cpu_mem_arena = not low_memory
        if read_cpu().saturates:
            for key, value in EXACT.items():
                options.add_session_config_entry(key, value)
        if not optimized:
            options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
        options.add_session_config_entry("session.intra_op.allow_spinning", str(int(spinning)))
        options.log_severity_level = 4  # fatal only: errors arrive as exceptions
        if weights:
            options.add_external_initializers(
                list(weights), list(map(onnxruntime.OrtValue.ortvalue_from_numpy, weights.values())))
        self._weights = weights  # the session reads these arrays and does not keep them alive
        source = graph if isinstance(graph, bytes) else checked_path(graph)
        try:
            with huge_pages():
                self._session = onnxruntime.InferenceSession(
                    source, options, providers=["CPUExecutionProvider"])
        except Exception as error:  # its exceptions share no narrower class
            raise BundleError(f"ONNX Runtime {onnxruntime.__version__} cannot load "
                              f"{'the graph' if isinstance(graph, bytes) else graph}: "
                              f"{_first_line(error)}{_advice_on_links(graph)}") from None
        keep_in_child(self._session)
        release_libraries(Path(onnxruntime.__file__).parent / "capi")  # most of it ran only to load
        if self._session.get_modelmeta().custom_metadata_map != contract.to_metadata():
            raise BundleError(f"{graph if isinstance(graph, Path) else 'the graph'}: its metadata "
                              "does not match the bundle's contract. Export the bundle again.")
        values = (*self._session.get_inputs(), *self._session.get_outputs())
        check_tensors((contract.input, *contract.cache_in, *contract.outputs, *contract.cache_out),
                      {value.name: value.shape for value in values},
                      graph if isinstance(graph, Path) else "the graph")
        self._initial = cache
        self._contract = contract
        self._ort_value = onnxruntime.OrtValue.ortvalue_from_numpy

    def initial_cache(self, streams: int = 1) -> list[BoundCache]:
        self.check_process()
        if self._contract.options.streams != ANY:
            return [self._begin(streams)]
        return [self._begin(min(GROUP, streams - first)) for first in range(0, streams, GROUP)]

    def __call__(self, x: FloatArray, cache: list[BoundCache]) -> tuple[Outputs, list[BoundCache]]:
        self.check_process()
        first = 0
        for group in cache:
            group.x[:] = x[first:first + len(group.x)]
            first += len(group.x)
            try:
                self._session.run_with_iobinding(group.step)
            except Exception as error:
                raise RunError(f"ONNX Runtime failed in a step: {_first_line(error)}") from None
        outputs = zip(*(group.outputs for group in cache), strict=True)
        return Outputs(*map(np.concatenate, outputs)), [group.swap() for group in cache]

    def silence(self, cache: list[BoundCache], stream: int) -> list[BoundCache]:
        number, row = divmod(stream, len(cache[0].x))
        for array, initial in zip(cache[number].now, self._initial, strict=True):
            array[row] = initial[0]
        return cache

    def executed(self) -> dict[str, dict[str, int]]:
        return {}  # ONNX Runtime keeps the precisions of the graph

    def close(self) -> None:
        self._session, self._weights, self.is_closed = None, None, True

    def _begin(self, streams: int) -> BoundCache:
        """Allocate and bind the buffers of streams after silence that run at a time."""
        def allocate(shape: tuple[int, ...]) -> FloatArray:
            return np.empty([streams if size == ANY else size for size in shape], np.float32)

        contract = self._contract
        x = allocate(contract.input.shape)
        outputs = [allocate(spec.shape) for spec in contract.outputs]
        now = [np.repeat(initial, streams, axis=0) for initial in self._initial]
        spare = [np.empty_like(array) for array in now]
        return BoundCache(now=now, spare=spare, step=self._bind(x, outputs, now, spare),
                          next_step=self._bind(x, outputs, spare, now), x=x, outputs=outputs)

    def _bind(self, x: FloatArray, outputs: list[FloatArray], old: list[NDArray[Any]],
              new: list[NDArray[Any]]) -> Any:
        """Bind a step to buffers; the binding neither copies them nor keeps them alive."""
        binding, contract = self._session.io_binding(), self._contract
        keep_in_child(binding)
        for spec, array in zip((contract.input, *contract.cache_in), (x, *old), strict=True):
            binding.bind_ortvalue_input(spec.name, self._ort_value(array))
        for spec, array in zip((*contract.outputs, *contract.cache_out), (*outputs, *new), strict=True):
            binding.bind_ortvalue_output(spec.name, self._ort_value(array))
        return binding


def checked_path(graph: Path) -> str:
    """Return the path as a string for ONNX Runtime. Raises `BundleError` if it is not UTF-8."""
    try:
        str(graph).encode()
    except UnicodeEncodeError:
        raise BundleError(f"the path of {graph} is not UTF-8, which ONNX Runtime cannot open. Rename the "
                          "folder, or change to it and load the bundle as `.`.") from None
    return str(graph)


def _advice_on_links(graph: Path | bytes) -> str:
    """Return what to do if the graph and its weights are symbolic links into different folders, which ONNX
    Runtime refuses on purpose; "" if they are not."""
    parts = [] if isinstance(graph, bytes) else graph.parent.glob(f"{graph.name}*")
    if len({part.resolve().parent for part in parts}) < 2:
        return ""
    return (". The files of the bundle are links into several folders: link all of them into one folder, "
            "copy them instead, or link the bundle's folder itself.")


def _first_line(error: Exception) -> str:
    return str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
