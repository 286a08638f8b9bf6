"""TensorRT on a Jetson: an engine that was built on this very board, tensors bound by name.

Every cache has two buffers that swap roles after each step, for an engine must never write the buffer that
it reads (NVIDIA/TensorRT#4681). Each direction is recorded once as a CUDA graph, which keeps the addresses of
its buffers. `Engine` is all that a step knows of TensorRT.
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
from satexport.step import FloatArray

PACKAGE = JETSON_MODULE
RECORD = "engine.json"
KEYS: dict[str, type | tuple[type, ...]] = {
    "engine": str, "sha256": str, "graph_sha256": str, "bundle_sha256": str, "tensorrt": str,
    "compute_capability": list, "executed": dict}
INTERCHANGEABLE = {"float32", "float16"}  # an engine may have the one if the contract says the other


@dataclass(eq=False, kw_only=True)
class TensorRtCache:
    """The cache of N streams: addresses of the buffers, and the two steps over them."""

    now: list[int]              # what the next step reads
    then: list[int]             # what it writes
    step: Callable[[], None]    # from `now` to `then`
    back: Callable[[], None]    # the step after it
    x: int
    scores: int

    def swap(self) -> None:
        self.now, self.then, self.step, self.back = self.then, self.now, self.back, self.step


class TensorRtStep(ProcessBound):
    """A contract's graph as an engine; threads take turns.

    `cache` is the initial cache of one stream, an array for each cache input in the order of the contract; it
    is read again whenever streams begin. `layers` is what `executed` tells.
    """

    def __init__(self, engine: Engine, contract: Contract, cache: Iterable[NDArray[Any]],
                 layers: dict[str, dict[str, int]] | None = None) -> None:
        super().__init__()
        self._tensors = engine.tensors()
        check_tensors(self._tensors, contract)
        self._engine, self._contract, self._initial, self._layers = engine, contract, cache, layers or {}
        self._lock = threading.Lock()
        self._gone: deque[ExitStack] = deque()  # buffers of caches that are no more

    def initial_cache(self, streams: int) -> TensorRtCache:
        if streams != (fixed := self._contract.options.streams):
            raise UsageError(f"the engine runs {fixed} streams in one step, not {streams}. Export with "
                             f"--streams {streams}, and build an engine of that.")
        with self._turn():
            cache = self._begin()
            self._silence(cache, range(streams))  # only now: a step that is prepared writes its buffers
        return cache

    def __call__(self, x: FloatArray, cache: TensorRtCache) -> tuple[FloatArray, TensorRtCache]:
        given, taken = (self._tensors[spec.name] for spec in (self._contract.input, self._contract.scores))
        scores = np.empty(taken.shape, taken.dtype)
        with self._turn():
            self._engine.upload(cache.x, x.astype(given.dtype))
            cache.step()
            self._engine.download(scores, cache.scores)
            cache.swap()
        return scores.astype(np.float32), cache

    def silence(self, cache: TensorRtCache, stream: int) -> TensorRtCache:
        with self._turn():
            self._silence(cache, (stream,))
        return cache

    def executed(self) -> dict[str, dict[str, int]]:
        return self._layers

    def close(self) -> None:
        """Free the engine and the buffers of all its streams, none of which can be used any more."""
        if self.is_closed:
            return
        with self._turn():
            self._engine.close()
        self.is_closed = True

    def _begin(self) -> TensorRtCache:
        """A buffer for each tensor, freed when the cache goes, and the steps over them in both directions."""
        engine, contract, addresses = self._engine, self._contract, list[int]()
        specs = (contract.input, contract.scores, *contract.cache_in, *contract.cache_out)

        def step(old: list[int], new: list[int]) -> Callable[[], None]:
            bound = zip(specs, (*addresses[:2], *old, *new), strict=True)
            return engine.prepare({spec.name: address for spec, address in bound})

        with ExitStack() as undo:
            for spec in specs:
                tensor = self._tensors[spec.name]
                addresses.append(engine.allocate(prod(tensor.shape) * np.dtype(tensor.dtype).itemsize))
                undo.callback(engine.free, addresses[-1])
            layers = len(contract.cache_in)
            now, then = addresses[2:2 + layers], addresses[2 + layers:]
            cache = TensorRtCache(now=now, then=then, step=step(now, then), back=step(then, now),
                                  x=addresses[0], scores=addresses[1])
            weakref.finalize(cache, self._release, undo.pop_all()).atexit = False  # the process frees all
        return cache

    def _silence(self, cache: TensorRtCache, streams: Iterable[int]) -> None:
        for spec, address, initial in zip(self._contract.cache_in, cache.now, self._initial, strict=True):
            values = initial.astype(self._tensors[spec.name].dtype)
            for stream in streams:
                self._engine.upload(address + stream * values.nbytes, values)

    @contextmanager
    def _turn(self) -> Iterator[None]:
        """The engine for this thread alone."""
        self.check_process()
        try:
            with self._lock:
                yield
        finally:
            self._sweep()

    def _release(self, buffers: ExitStack) -> None:
        """Free them now, or after the turn of whoever has the engine: Python collects at any moment. A forked
        child has no CUDA to free them with."""
        if not self.is_here():
            return
        self._gone.append(buffers)
        self._sweep()

    def _sweep(self) -> None:
        while self._gone and self._lock.acquire(blocking=False):
            try:
                self._gone.popleft().close()
            finally:
                self._lock.release()


def check_tensors(found: Mapping[str, EngineTensor], contract: Contract) -> None:
    """Raise `BundleError` where an engine's inputs and outputs are not those of the contract."""
    if contract.options.streams == ANY:
        raise BundleError("the graph leaves the number of streams open, which no TensorRT engine can. Export "
                          "with --streams N.")
    inputs, outputs = (contract.input, *contract.cache_in), (contract.scores, *contract.cache_out)
    for spec in (*inputs, *outputs):
        tensor, expected = found.get(spec.name), EngineTensor(spec.shape, spec.dtype, spec in inputs)
        if tensor != expected and (tensor is None or not {tensor.dtype, spec.dtype} <= INTERCHANGEABLE or (
                (tensor.shape, tensor.is_input) != (expected.shape, expected.is_input))):
            raise BundleError(f"the engine's {spec.name} is {tensor}, expected {expected}. {REBUILD}")
    if foreign := sorted(set(found) - {spec.name for spec in (*inputs, *outputs)}):
        raise BundleError(f"the engine has a tensor {foreign[0]}, the contract has not. {REBUILD}")
    for old, new in zip(contract.cache_in, contract.cache_out, strict=True):
        if found[old.name].dtype != found[new.name].dtype:
            raise BundleError(f"the engine has {old.name} in {found[old.name].dtype} and {new.name} in "
                              f"{found[new.name].dtype}, expected one dtype. {REBUILD}")


def load_engine(bundle: Bundle) -> TensorRtStep:
    """Load the engine that engine.json in the bundle's folder names.
    Raises `MissingError` where it was not built yet, or TensorRT or a GPU is not here; `BundleError` where it
    was changed, or built for another bundle, TensorRT or device."""
    record = _read_record(bundle)
    trt, cuda = import_tensorrt(RTX_MODULE if record.get("module") == RTX_MODULE else PACKAGE), Cuda()
    plan, capabilities = bundle.path / Path(record["engine"]).name, record["compute_capability"]
    graphs = [sha256 for name, sha256 in bundle.files.items() if name.endswith(".onnx")]
    try:
        for what, expected, found in (
                ("its own SHA-256", [record["sha256"]], [sha256_of(plan)]),
                ("a bundle with the SHA-256", [record["bundle_sha256"]], [bundle.sha256]),
                ("a graph with the SHA-256", [record["graph_sha256"]], graphs),
                ("TensorRT", [record["tensorrt"]], [trt.__version__]),
                ("compute capability",
                 [*map(str, capabilities)], [cuda.compute_capability()])):
            if not set(expected) & set(found):
                raise BundleError(f"{plan}: {RECORD} says {what} {' or '.join(expected)}, here is "
                                  f"{' or '.join(found)}. {REBUILD}")
        engine = TensorRtEngine(plan, trt, cuda)
    except OSError as error:
        raise BundleError(f"{plan} cannot be read ({error.strerror or error}). {REBUILD}") from None
    return TensorRtStep(engine, bundle.contract, bundle.initial_cache(), record["executed"])


def engine_record(bundle: Bundle, engine: Path, module: str, version: str, capabilities: Sequence[str],
                  executed: Mapping[str, Mapping[str, int]]) -> dict[str, Any]:
    """What engine.json says of an engine in the bundle's folder: what it was built of, by, and for."""
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
