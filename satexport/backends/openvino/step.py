"""OpenVINO: a model whose infer requests each keep the state of their streams, or one with explicit caches.

The precision is set always, because OpenVINO by itself computes in bf16 on a CPU that has it, and read back
from what it compiled. The streams of a step may be shared between several requests that run at a time.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from satexport.backends.openvino.pages import release_mapped_pages
from satexport.backends.openvino.settings import OpenVinoSettings
from satexport.bundle.contract import ANY, Contract, TensorSpec
from satexport.bundle.folder import Bundle
from satexport.bundle.target import AUTO, Target
from satexport.errors import BundleError, MissingError, RunError
from satexport.files import cache_folder, check_writable
from satexport.process import ProcessBound, keep_in_child
from satexport.runtimes import check_version, import_runtime
from satexport.step import FloatArray

PACKAGE = "openvino"
LEAST = 2025, 0  # as the extra `openvino` says
PRECISIONS = {"fp32": "f32", "bf16": "bf16"}  # a target's words and OpenVINO's
CONTRACT, QUANTIZED, FRONT_END_LAYERS = (  # keys of the IR's rt_info
    ["satexport", key] for key in ("contract", "int8_products", "front_end"))
PRODUCT_LAYERS = {"FullyConnected", "MatMul", "Convolution"}  # types, of the compiled model


@dataclass(frozen=True, kw_only=True)
class RequestLane:
    """Streams that one request serves, which keeps their states; with explicit caches two requests read from
    each other's buffers, in turns."""

    now: Any
    then: Any
    caches: Sequence[NDArray[Any]]      # that `now` reads; none where the request keeps its states
    written: Sequence[NDArray[Any]]
    x: FloatArray
    scores: FloatArray

    def swapped(self) -> RequestLane:
        return RequestLane(now=self.then, then=self.now, caches=self.written, written=self.caches, x=self.x,
                           scores=self.scores)


class OpenVinoStep(ProcessBound):
    """An IR under OpenVINO.

    `cache` is the initial one of one stream, in the order of the contract, gone through anew whenever streams
    begin; `threads` None lets OpenVINO decide; `model_cache` is a folder of this bundle alone where what
    OpenVINO compiled is kept for the next time. `compiled` is OpenVINO's own model.
    """

    def __init__(self, graph: Path, contract: Contract, cache: Iterable[NDArray[Any]],
                 settings: OpenVinoSettings,
                 threads: int | None = None, model_cache: Path | None = None) -> None:
        super().__init__()
        openvino = _openvino()
        check_version("OpenVINO", openvino.__version__, LEAST, "openvino")
        core = openvino.Core()
        self._tensor, self._contract, self._initial = openvino.Tensor, contract, cache
        self._stateful, self._lanes = settings.stateful, lanes(contract, settings)
        check_device(core, settings.device, settings.floats)
        properties: dict[str, Any] = {
            "INFERENCE_PRECISION_HINT": PRECISIONS[settings.floats],
            "PERFORMANCE_HINT": "LATENCY" if settings.requests == 1 else "THROUGHPUT",
            "NUM_STREAMS": str(settings.requests)}
        if threads:
            properties["INFERENCE_NUM_THREADS"] = threads
        read_once = [graph.with_suffix(".bin").resolve()]
        if model_cache:
            properties["CACHE_DIR"] = str(model_cache)
            read_once.append(model_cache.resolve())
        try:
            model = core.read_model(graph)
        except Exception as error:  # OpenVINO raises RuntimeError for whatever it is
            raise BundleError(f"OpenVINO {openvino.__version__} cannot read {graph}: {_reason(error)}. If "
                              "the bundle is of a newer OpenVINO, make it again with this one.") from None
        if not model.has_rt_info(CONTRACT) or (
                model.get_rt_info(CONTRACT).astype(str) != contract_json(contract)):
            raise BundleError(f"{graph}: its metadata is not the contract it is used with. Make it again.")
        quantized = int(model.get_rt_info(QUANTIZED).astype(str))
        self._front_end = frozenset(json.loads(model.get_rt_info(FRONT_END_LAYERS).astype(str)))  # names
        try:
            with release_mapped_pages(*read_once):
                self.compiled = core.compile_model(model, settings.device, properties)
                del model
            keep_in_child(self.compiled)
        except Exception as error:
            raise BundleError(f"OpenVINO {openvino.__version__} cannot compile {graph} for "
                              f"{settings.device}: {_reason(error)}") from None
        check_executed(self.executed(), PRECISIONS[settings.floats], settings.weights, quantized)

    def initial_cache(self, streams: int = 1) -> list[RequestLane]:
        self.check_process()
        return [self._begin() for _ in range(streams // self._lanes)]

    def __call__(self, x: FloatArray, cache: list[RequestLane]) -> tuple[FloatArray, list[RequestLane]]:
        self.check_process()
        for served, part in zip(cache, np.split(x, len(cache)), strict=True):
            served.x[:] = part
            served.now.start_async()
        failed = [error for served in cache if (error := _wait(served.now))]
        if failed:
            raise RunError(f"OpenVINO failed in a step: {_reason(failed[0])}")
        return np.concatenate([served.scores for served in cache]), [served.swapped() for served in cache]

    def silence(self, cache: list[RequestLane], stream: int) -> list[RequestLane]:
        served, lane = cache[stream // self._lanes], stream % self._lanes
        if served.caches:
            for array, initial in zip(served.caches, self._initial, strict=True):
                array[lane] = initial[0]
        elif self._lanes == 1:
            served.now.reset_state()
        else:
            self._silence(served.now, lane)
        return cache

    def executed(self) -> dict[str, dict[str, int]]:
        """Precisions that OpenVINO computes in: how many layers of the front end, and how many products of
        the model, in each."""
        found: dict[str, Counter[str]] = {"front end": Counter(), "products": Counter()}
        for node in self.compiled.get_runtime_model().get_ops():
            info = node.get_rt_info()
            kind, precision, names = (info[key].astype(str) for key in (
                "layerType", "runtimePrecision", "originalLayersNames"))
            if kind in ("Const", "Input"):
                continue
            if names.partition(",")[0] in self._front_end:
                found["front end"][precision] += 1
            elif kind in PRODUCT_LAYERS:
                found["products"][precision] += 1
        return {part: dict(counts) for part, counts in found.items() if counts}

    def close(self) -> None:
        self.compiled, self.is_closed = None, True

    def _begin(self) -> RequestLane:
        """A request whose streams have heard silence."""
        contract = self._contract
        x = np.empty((self._lanes, *contract.input.shape[1:]), np.float32)
        scores = np.empty((self._lanes, contract.classes), np.float32)
        if self._stateful or not contract.cache_in:
            request = self._request(x, scores, (), ())
            if self._lanes > 1:  # or `silence` would find nothing to keep of the others before the first step
                self._silence(request, slice(None))
            return RequestLane(now=request, then=request, caches=(), written=(), x=x, scores=scores)
        now = [np.repeat(one, self._lanes, axis=0) for one in self._initial]
        then = [np.empty_like(array) for array in now]
        return RequestLane(now=self._request(x, scores, now, then), then=self._request(x, scores, then, now),
                           caches=now, written=then, x=x, scores=scores)

    def _silence(self, request: Any, streams: int | slice) -> None:
        """Put the states of some streams back at silence."""
        states, contract = {state.name: state for state in request.query_state()}, self._contract
        for old, new, initial in zip(contract.cache_in, contract.cache_out, self._initial, strict=True):
            state = states[state_name(old, new)]
            values = np.array(state.state.data)
            values[streams] = initial[0]
            state.state = self._tensor(values)

    def _request(self, x: FloatArray, scores: FloatArray, old: Sequence[NDArray[Any]],
                 new: Sequence[NDArray[Any]]) -> Any:
        """A request over buffers of ours."""
        request, contract = self.compiled.create_infer_request(), self._contract
        keep_in_child(request)
        buffers = {contract.input.name: x, contract.scores.name: scores}
        buffers |= zip((spec.name for spec in contract.cache_in), old, strict=False)
        buffers |= zip((spec.name for spec in contract.cache_out), new, strict=False)
        for name, array in buffers.items():
            request.set_tensor(name, self._tensor(array, shared_memory=True))
        return request


def state_name(old: TensorSpec, new: TensorSpec) -> str:
    """The state that MakeStateful makes of a cache input and its output."""
    return f"{old.name}{new.name}"


def lanes(contract: Contract, settings: OpenVinoSettings) -> int:
    """How many streams one request serves."""
    return 1 if contract.options.streams == ANY else contract.options.streams // settings.requests


def contract_json(contract: Contract) -> str:
    """The contract as the IR holds it."""
    return json.dumps(contract.to_metadata(), sort_keys=True)


def check_device(core: Any, device: str, floats: str) -> None:
    """Raise `MissingError` where the device is not there, or has no such precision."""
    if not any(name == device or name.startswith(f"{device}.") for name in core.available_devices):
        raise MissingError(f"OpenVINO finds no {device} here; it finds {', '.join(core.available_devices)}.")
    if floats == "bf16" and not has_bf16(core, device):
        name = core.get_property(device, "FULL_DEVICE_NAME")
        raise MissingError(f"{name} has no bf16. Make the bundle for fp32, or for int8 with floats in fp32, "
                           "as the target openvino-n100 does.")


def has_bf16(core: Any, device: str) -> bool:
    return "BF16" in core.get_property(device, "OPTIMIZATION_CAPABILITIES")


def check_executed(executed: dict[str, dict[str, int]], floats: str, weights: str, quantized: int) -> None:
    """Raise `MissingError` where OpenVINO computes in another precision than was asked for: the front end in
    f32, `quantized` products in int8, the others in `floats`."""
    products, front_end = dict(executed["products"]), executed.get("front end", {})
    if weights == "fp16" and floats == "f32":  # such a product is called by its weights
        products.pop("f16", None)
    whole = sum(count for precision, count in products.items() if precision in ("i8", "u8"))
    if set(front_end) <= {"f32"} and whole >= quantized and set(products) <= {floats, "i8", "u8"}:
        return
    raise MissingError(f"expected {quantized} products in int8, the others in {floats} and the front end in "
                       f"f32; OpenVINO computes {executed} here. Make the bundle for another precision.")


def resolve_float_precision(target: Target, settings: OpenVinoSettings) -> str:
    """The precision of what a target does not quantise, AUTO decided for this machine. Raises
    `MissingError` where OpenVINO, the device or the precision is not here."""
    core = _openvino().Core()
    floats = settings.floats if target.precision == "int8" else target.precision
    if floats == AUTO:
        check_device(core, settings.device, "fp32")
        return "bf16" if has_bf16(core, settings.device) else "fp32"
    check_device(core, settings.device, floats)
    return floats


def model_cache_folder(bundle: Bundle) -> Path:
    """Where what OpenVINO made of this very bundle is kept. Raises `RunError` where nothing is there, nor can
    be put there."""
    try:
        folder = cache_folder() / PACKAGE / bundle.sha256
        if not any(folder.glob("*.blob")):
            check_writable(folder)
            folder.mkdir(parents=True, exist_ok=True)
    except (RunError, RuntimeError, OSError) as error:  # RuntimeError: the user has no home
        raise RunError(f"The target of {bundle.path} wants what OpenVINO compiles to be kept (model_cache), "
                       f"and there is no place for it: {error} Say where with SATEXPORT_CACHE=DIR.") from None
    return folder


def _wait(request: Any) -> Exception | None:
    """Wait for a request; the error it ended with."""
    try:
        request.wait()
    except Exception as error:
        return error
    return None


def _openvino() -> Any:
    try:
        return import_runtime(PACKAGE)
    except ImportError:
        raise MissingError("OpenVINO is not installed: pip install 'satexport[openvino]'.") from None


def _reason(error: Exception) -> str:
    """The last line of OpenVINO's that says anything; the others name its sources."""
    lines = [line for line in str(error).splitlines() if line.strip()]
    return lines[-1] if lines else type(error).__name__
