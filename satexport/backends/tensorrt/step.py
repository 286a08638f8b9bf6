"""Run a TensorRT engine that was built on this board, with tensors bound by name.

Every cache has two buffers that swap roles after each step, because an engine must never write the buffer
that it reads (NVIDIA/TensorRT#4681). Each direction is captured once as a CUDA graph, which contains the
addresses of its buffers. A step calls TensorRT only through `Engine`.
"""

from __future__ import annotations

import json
import threading
import weakref
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from math import prod
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from satexport.backends.tensorrt.cuda import Cuda
from satexport.backends.tensorrt.engine import REBUILD, Engine, EngineTensor, TensorRtEngine, import_tensorrt
from satexport.backends.tensorrt.settings import JETSON_MODULE, RTX_MODULE
from satexport.bundle.contract import ANY, Contract
from satexport.bundle.folder import Bundle
from satexport.errors import BundleError, MissingError, UsageError
from satexport.files import sha256_of
from satexport.process import ProcessBound
from satexport.step import FloatArray, Outputs

PACKAGE = JETSON_MODULE
RECORD = "engine.json"
KEYS: dict[str, type | tuple[type, ...]] = {
    "engine": str, "sha256": str, "graph_sha256": str, "bundle_sha256": str, "tensorrt": str,
    "compute_capability": list, "executed": dict}
INTERCHANGEABLE = {"float32", "float16"}  # an engine may have one of them if the contract has the other


@dataclass(eq=False, kw_only=True)
class TensorRtCache:
    """The cache of N streams: addresses of device buffers, and the next two steps over them."""

    now: list[int]                 # the cache, which the next step reads
    spare: list[int]               # buffers into which that step writes the new cache
    step: Callable[[], None]       # reads `now` and writes `spare`
    next_step: Callable[[], None]  # reads `spare` and writes `now`
    x: int
    outputs: list[int]             # in the order of `Contract.outputs`

    def swap(self) -> None:
        """Swap the roles of the buffers and steps, after a step."""
        self.now, self.spare, self.step, self.next_step = self.spare, self.now, self.next_step, self.step


class TensorRtStep(ProcessBound):
    """An engine as a step; only one thread at a time uses it.

    `cache` is the initial cache of a single stream, an array for each cache input in the order of the
    contract; it is read again each time streams start. `layers` is what `executed` returns.
    """

    def __init__(self, engine: Engine, contract: Contract, cache: Iterable[NDArray[Any]],
                 layers: dict[str, dict[str, int]] | None = None) -> None:
        super().__init__()
        self._tensors = engine.tensors()
        check_engine_tensors(self._tensors, contract)
        self._engine, self._contract, self._initial, self._layers = engine, contract, cache, layers or {}
        self._lock = threading.Lock()
        self._unused: deque[ExitStack] = deque()  # buffers of collected caches, not freed yet

    def initial_cache(self, streams: int) -> TensorRtCache:
        if streams != (fixed := self._contract.options.streams):
            raise UsageError(f"the engine runs {fixed} streams in one step, not {streams}. Export with "
                             f"--streams {streams}, and build the engine again.")
        with self._locked_engine():
            cache = self._begin()
            self._upload_silence(cache, range(streams))  # after `_begin`, whose steps write the buffers
        return cache

    def __call__(self, x: FloatArray, cache: TensorRtCache) -> tuple[Outputs, TensorRtCache]:
        tensors = [self._tensors[spec.name] for spec in self._contract.outputs]
        outputs = [np.empty(tensor.shape, tensor.dtype) for tensor in tensors]
        with self._locked_engine():
            self._engine.upload(cache.x, x.astype(self._tensors[self._contract.input.name].dtype))
            cache.step()
            for output, address in zip(outputs, cache.outputs, strict=True):
                self._engine.download(output, address)
            cache.swap()
        return Outputs(*(output.astype(np.float32) for output in outputs)), cache

    def silence(self, cache: TensorRtCache, stream: int) -> TensorRtCache:
        with self._locked_engine():
            self._upload_silence(cache, (stream,))
        return cache

    def executed(self) -> dict[str, dict[str, int]]:
        return self._layers

    def close(self) -> None:
        """Free the engine and the buffers of all its streams, which can no longer be used."""
        if self.is_closed:
            return
        with self._locked_engine():
            self._engine.close()
        self.is_closed = True

    def _begin(self) -> TensorRtCache:
        """Allocate a buffer for each tensor and prepare the steps in both directions. The buffers are freed
        when the cache is garbage-collected."""
        engine, contract, addresses = self._engine, self._contract, list[int]()
        specs = (contract.input, *contract.outputs, *contract.cache_in, *contract.cache_out)
        first = 1 + len(contract.outputs)  # of the caches

        def step(old: list[int], new: list[int]) -> Callable[[], None]:
            bound = zip(specs, (*addresses[:first], *old, *new), strict=True)
            return engine.prepare({spec.name: address for spec, address in bound})

        with ExitStack() as undo:
            for spec in specs:
                tensor = self._tensors[spec.name]
                addresses.append(engine.allocate(prod(tensor.shape) * np.dtype(tensor.dtype).itemsize))
                undo.callback(engine.free, addresses[-1])
            layers = len(contract.cache_in)
            now, spare = addresses[first:first + layers], addresses[first + layers:]
            cache = TensorRtCache(now=now, spare=spare, step=step(now, spare), next_step=step(spare, now),
                                  x=addresses[0], outputs=addresses[1:first])
            # not at exit: the end of the process frees everything
            weakref.finalize(cache, self._release, undo.pop_all()).atexit = False
        return cache

    def _upload_silence(self, cache: TensorRtCache, streams: Iterable[int]) -> None:
        """Set some streams of a cache to the cache after silence."""
        for spec, address, initial in zip(self._contract.cache_in, cache.now, self._initial, strict=True):
            values = initial.astype(self._tensors[spec.name].dtype)
            for stream in streams:
                self._engine.upload(address + stream * values.nbytes, values)

    @contextmanager
    def _locked_engine(self) -> Iterator[None]:
        """Lock the engine for this thread; afterwards free the buffers of collected caches."""
        self.check_process()
        try:
            with self._lock:
                yield
        finally:
            self._free_unused()

    def _release(self, buffers: ExitStack) -> None:
        """Free buffers now, or as soon as the thread that uses the engine is done: garbage collection can
        happen at any time. Does nothing in a forked child, where CUDA cannot be used."""
        if not self.is_here():
            return
        self._unused.append(buffers)
        self._free_unused()

    def _free_unused(self) -> None:
        while self._unused and self._lock.acquire(blocking=False):
            try:
                self._unused.popleft().close()
            finally:
                self._lock.release()


def check_engine_tensors(tensors: Mapping[str, EngineTensor], contract: Contract) -> None:
    """Raise `BundleError` if an engine's inputs and outputs do not match the contract."""
    if contract.options.streams == ANY:
        raise BundleError("the graph is for any number of streams, but a TensorRT engine has fixed shapes. "
                          "Export with --streams N.")
    inputs, outputs = (contract.input, *contract.cache_in), (*contract.outputs, *contract.cache_out)
    for spec in (*inputs, *outputs):
        tensor, expected = tensors.get(spec.name), EngineTensor(spec.shape, spec.dtype, spec in inputs)
        if tensor != expected and (tensor is None or not {tensor.dtype, spec.dtype} <= INTERCHANGEABLE or (
                (tensor.shape, tensor.is_input) != (expected.shape, expected.is_input))):
            raise BundleError(f"the engine's tensor {spec.name} is {tensor or 'missing'}, expected "
                              f"{expected}. {REBUILD}")
    if unknown := sorted(set(tensors) - {spec.name for spec in (*inputs, *outputs)}):
        raise BundleError(f"the engine has a tensor {unknown[0]}, which is not in the contract. {REBUILD}")
    for old, new in zip(contract.cache_in, contract.cache_out, strict=True):
        if tensors[old.name].dtype != tensors[new.name].dtype:
            raise BundleError(f"the engine has {old.name} in {tensors[old.name].dtype} and {new.name} in "
                              f"{tensors[new.name].dtype}, expected the same dtype. {REBUILD}")


def load_engine(bundle: Bundle) -> TensorRtStep:
    """Load the engine that engine.json in the bundle's folder names. Raises `MissingError` if it has not been
    built yet, or if TensorRT or a GPU is not available; `BundleError` if it was changed, or built for another
    bundle, TensorRT version or device."""
    record = _read_record(bundle)
    trt, cuda = import_tensorrt(RTX_MODULE if record.get("module") == RTX_MODULE else PACKAGE), Cuda()
    plan, record = find_engine(bundle)
    _compare(plan, ("TensorRT", [record["tensorrt"]], [trt.__version__]),
             ("compute capability", [*map(str, record["compute_capability"])], [cuda.compute_capability()]))
    try:
        engine = TensorRtEngine(plan, trt, cuda)
    except OSError as error:
        raise _unreadable(plan, error) from None
    return TensorRtStep(engine, bundle.contract, bundle.initial_cache(), record["executed"])


def find_engine(bundle: Bundle) -> tuple[Path, dict[str, Any]]:
    """Return the engine that engine.json in the bundle's folder names, and the content of engine.json. Needs
    neither TensorRT nor a GPU. Raises `MissingError` if the engine has not been built yet, `BundleError` if
    it was changed or built for another bundle."""
    record = _read_record(bundle)
    plan = bundle.path / Path(record["engine"]).name
    graphs = [sha256 for name, sha256 in bundle.files.items() if name.endswith(".onnx")]
    try:
        _compare(plan, ("its own SHA-256", [record["sha256"]], [sha256_of(plan)]),
                 ("a bundle with the SHA-256", [record["bundle_sha256"]], [bundle.sha256]),
                 ("a graph with the SHA-256", [record["graph_sha256"]], graphs))
    except OSError as error:
        raise _unreadable(plan, error) from None
    return plan, record


def _compare(plan: Path, *facts: tuple[str, Sequence[str], Sequence[str]]) -> None:
    """Raise `BundleError` for the first fact that differs: what, its values in engine.json, those found."""
    for what, expected, found in facts:
        if not set(expected) & set(found):
            raise BundleError(f"{plan}: {RECORD} says {what} {' or '.join(expected)}, found "
                              f"{' or '.join(found)}. {REBUILD}")


def _unreadable(plan: Path, error: OSError) -> BundleError:
    return BundleError(f"{plan} cannot be read ({error.strerror or error}). {REBUILD}")


def engine_record(bundle: Bundle, engine: Path, module: str, version: str, capabilities: Sequence[str],
                  executed: Mapping[str, Mapping[str, int]]) -> dict[str, Any]:
    """Return the content of engine.json: from which graph, with what and for which device an engine in the
    bundle's folder was built."""
    return {"engine": engine.name, "sha256": sha256_of(engine), "precision": engine.stem,
            "graph_sha256": sha256_of(bundle.path / f"{engine.stem}.onnx"), "bundle_sha256": bundle.sha256,
            "module": module, "tensorrt": version, "compute_capability": list(capabilities),
            "executed": executed}


def _read_record(bundle: Bundle) -> dict[str, Any]:
    path = bundle.path / RECORD
    try:
        record = json.loads(path.read_bytes())
        wrong = [key for key, kind in KEYS.items() if not isinstance(record[key], kind)]
    except FileNotFoundError:
        raise MissingError(f"{bundle.path} has no engine yet. Build it on the board: run its ./build.sh, or "
                           f"`satexport trt --build {bundle.path}`.") from None
    except (ValueError, KeyError, TypeError, OSError) as error:
        raise BundleError(f"{path} is damaged ({error!r}). {REBUILD}") from None
    if wrong:
        raise BundleError(f"{path} is damaged ({wrong[0]} is {record[wrong[0]]!r}). {REBUILD}")
    return dict(record)
