"""ONNX Runtime on a CPU.

Inputs and outputs are bound once, every cache to two buffers that are swapped after each step, so
that no step allocates or copies a cache.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from satexport.bundle.contract import ANY, Contract
from satexport.errors import BundleError, MissingError, RunError
from satexport.process import ProcessBound, keep_in_child
from satexport.runtimes import check_version, import_runtime
from satexport.step import FloatArray

PACKAGE = "onnxruntime"
LEAST = 1, 20  # as the extra `cpu` says


@dataclass(frozen=True, kw_only=True)
class BoundCache:
    """The cache of N streams and the buffers of one step: what is read, what is written."""

    now: list[NDArray[Any]]
    step: Any               # the binding that reads `now` and writes `then`
    then: list[NDArray[Any]]
    back: Any               # the binding of the step after it
    x: FloatArray           # where both read the chunk
    scores: FloatArray

    def swapped(self) -> BoundCache:
        return BoundCache(now=self.then, step=self.back, then=self.now, back=self.step, x=self.x,
                          scores=self.scores)


class OnnxRuntimeStep(ProcessBound):
    """A graph under ONNX Runtime.

    `cache` is the initial one of one stream, in the order of the contract, read again whenever streams
    begin. `threads` None lets ONNX Runtime decide. `low_memory` has it give back every tensor when it is
    done with it. `optimized` False has it compute what the graph says, node by node. `share_cores` has its
    threads sleep between steps, which is faster where PyTorch's threads want the same cores (parity: 1.7
    times, two cores)."""

    def __init__(self, graph: Path | bytes, contract: Contract, cache: Iterable[NDArray[Any]],
                 threads: int | None = None, *, low_memory: bool = False, optimized: bool = True,
                 share_cores: bool = False) -> None:
        try:
            onnxruntime = import_runtime(PACKAGE)
        except ImportError:
            raise MissingError("ONNX Runtime is not installed: "
                               "pip install 'satexport[cpu]'.") from None
        super().__init__()
        check_version("ONNX Runtime", onnxruntime.__version__, LEAST, "cpu")
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = threads or 0
        options.enable_cpu_mem_arena = not low_memory
        options.enable_mem_pattern = False  # 3 MB less for the largest model, and not slower
        if not optimized:
            options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
        options.add_session_config_entry("session.intra_op.allow_spinning", str(int(not share_cores)))
        options.log_severity_level = 4  # errors come as exceptions, whose text is cleaned for a terminal
        source = graph if isinstance(graph, bytes) else _path(graph)
        try:
            self._session = onnxruntime.InferenceSession(
                source, options, providers=["CPUExecutionProvider"])
        except Exception as error:  # its exceptions have no common class but this
            raise BundleError(f"ONNX Runtime {onnxruntime.__version__} cannot load "
                              f"{'the graph' if isinstance(graph, bytes) else graph}: "
                              f"{_first_line(error)}{_links_apart(graph)}") from None
        keep_in_child(self._session)
        if self._session.get_modelmeta().custom_metadata_map != contract.to_metadata():
            raise BundleError(f"{graph if isinstance(graph, Path) else 'the graph'}: its metadata "
                              "is not the contract it is used with. Export the bundle again.")
        self._initial = cache
        self._contract = contract
        self._value = onnxruntime.OrtValue.ortvalue_from_numpy

    def initial_cache(self, streams: int = 1) -> BoundCache:
        self.check_process()

        def shaped(shape: tuple[int, ...]) -> FloatArray:
            return np.empty([streams if size == ANY else size for size in shape], np.float32)

        contract = self._contract
        x, scores = shaped(contract.input.shape), shaped(contract.scores.shape)
        now = [np.repeat(one, streams, axis=0) for one in self._initial]
        then = [np.empty_like(array) for array in now]
        return BoundCache(now=now, step=self._bound(x, scores, now, then), then=then,
                          back=self._bound(x, scores, then, now), x=x, scores=scores)

    def __call__(self, x: FloatArray, cache: BoundCache) -> tuple[FloatArray, BoundCache]:
        self.check_process()
        cache.x[:] = x
        try:
            self._session.run_with_iobinding(cache.step)
        except Exception as error:
            raise RunError(f"ONNX Runtime failed in a step: {_first_line(error)}") from None
        return cache.scores.copy(), cache.swapped()

    def silence(self, cache: BoundCache, stream: int) -> BoundCache:
        for array, initial in zip(cache.now, self._initial, strict=True):
            array[stream] = initial[0]
        return cache

    def executed(self) -> dict[str, dict[str, int]]:
        return {}  # it computes what the graph says

    def close(self) -> None:
        self._session, self.is_closed = None, True

    def _bound(self, x: FloatArray, scores: FloatArray, old: list[NDArray[Any]],
               new: list[NDArray[Any]]) -> Any:
        """A binding over buffers that it neither copies nor keeps alive."""
        binding, contract = self._session.io_binding(), self._contract
        keep_in_child(binding)
        for spec, array in zip((contract.input, *contract.cache_in), (x, *old), strict=True):
            binding.bind_ortvalue_input(spec.name, self._value(array))
        for spec, array in zip((contract.scores, *contract.cache_out), (scores, *new), strict=True):
            binding.bind_ortvalue_output(spec.name, self._value(array))
        return binding


def _path(graph: Path) -> str:
    """The path as ONNX Runtime takes it. Raises `BundleError` where it is no UTF-8."""
    try:
        str(graph).encode()
    except UnicodeEncodeError:
        raise BundleError(f"the path of {graph} is not UTF-8, and ONNX Runtime opens no other. Rename the "
                          "folder, or go there and load the bundle as `.`.") from None
    return str(graph)


def _links_apart(graph: Path | bytes) -> str:
    """What to do where the graph and its weights lie in two folders, as links let them: ONNX Runtime refuses
    that on purpose."""
    parts = [] if isinstance(graph, bytes) else graph.parent.glob(f"{graph.name}*")
    if len({part.resolve().parent for part in parts}) < 2:
        return ""
    return (". Its files are links into several folders: make all of them links into one folder, or none, or "
            "a link of the bundle's folder itself.")


def _first_line(error: Exception) -> str:
    return str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
