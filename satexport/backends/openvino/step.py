"""OpenVINO: a stateful model, whose infer requests keep the state of their streams, or one with explicit
caches.

The inference precision is always set, because by default OpenVINO computes in bf16 on CPUs that support it,
and it is read back from the compiled model. Several infer requests that run in parallel may share the streams
of a step.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from satexport.backends.openvino.lanes import RequestLane, run
from satexport.backends.openvino.pages import read_mapped, releasing
from satexport.backends.openvino.settings import OpenVinoSettings
from satexport.bundle.contract import ANY, Contract, TensorSpec, check_tensors
from satexport.bundle.folder import Bundle
from satexport.bundle.target import AUTO, Target
from satexport.errors import BundleError, MissingError, RunError
from satexport.files import cache_folder, check_writable
from satexport.process import ProcessBound, keep_in_child
from satexport.runtimes import check_version, import_runtime
from satexport.step import FloatArray, Outputs

PACKAGE = "openvino"
MIN_VERSION = 2025, 0  # same as in the extra `openvino`
CPU = "CPU"
PRECISIONS = {"fp32": "f32", "bf16": "bf16"}  # name in a target -> name in OpenVINO
CONTRACT, QUANTIZED, FRONT_END_LAYERS = (  # keys of the IR's rt_info
    ["satexport", key] for key in ("contract", "int8_products", "front_end"))
INT8 = {"i8", "u8"}
PRODUCT_LAYERS = {"FullyConnected", "MatMul", "Convolution"}  # layer types of the compiled model


class OpenVinoStep(ProcessBound):
    """An IR under OpenVINO.

    `cache` is the initial cache of a single stream, in the order of the contract; it is read again each time
    streams start. With `threads` None, OpenVINO decides. `model_cache` is a folder for the compiled model,
    which no other bundle uses. `compiled` is OpenVINO's compiled model.
    """

    def __init__(self, graph: Path, contract: Contract, cache: Iterable[NDArray[Any]],
                 settings: OpenVinoSettings, threads: int | None = None,
                 model_cache: Path | None = None) -> None:
        super().__init__()
        openvino = _import_openvino()
        check_version("OpenVINO", openvino.__version__, MIN_VERSION, "openvino")
        core = openvino.Core()
        self._tensor, self._contract, self._initial = openvino.Tensor, contract, cache
        self._stateful, self._per_request = settings.stateful, streams_per_request(contract, settings)
        check_device(core, settings.device, settings.floats)
        properties: dict[str, Any] = {
            "INFERENCE_PRECISION_HINT": PRECISIONS[settings.floats],
            "PERFORMANCE_HINT": "LATENCY" if settings.requests == 1 else "THROUGHPUT",
            "NUM_STREAMS": str(settings.requests)}
        if threads:
            properties["INFERENCE_NUM_THREADS"] = threads
        if model_cache:
            properties["CACHE_DIR"] = str(model_cache)
        try:
            model, weights = read_mapped(lambda: core.read_model(graph), graph.with_suffix(".bin"))
        except Exception as error:  # OpenVINO raises RuntimeError for everything
            raise BundleError(f"OpenVINO {openvino.__version__} cannot read {graph}: {_reason(error)}. If "
                              "a newer OpenVINO wrote the bundle, make it again with this version.") from None
        if not model.has_rt_info(CONTRACT) or (
                model.get_rt_info(CONTRACT).astype(str) != contract_json(contract)):
            raise BundleError(f"{graph}: its metadata does not match the bundle's contract. Make the "
                              "bundle again.")
        check_tensors((contract.input, *contract.outputs), {
            name: list(value.shape) for value in (*model.inputs, *model.outputs)
            for name in value.get_names()}, graph)
        quantized = int(model.get_rt_info(QUANTIZED).astype(str))
        self._front_end = frozenset(json.loads(model.get_rt_info(FRONT_END_LAYERS).astype(str)))  # names
        self._products = frozenset(node.get_friendly_name() for node in model.get_ops()
                                   if node.get_type_name() in PRODUCT_LAYERS)
        try:
            with releasing(weights, Path(openvino.__file__).parent / "libs"):
                self.compiled = core.compile_model(model, settings.device, properties)
        except Exception as error:
            raise BundleError(f"OpenVINO {openvino.__version__} cannot compile {graph} for "
                              f"{settings.device}: {_reason(error)}") from None
        del model  # not before the end of the block, whose releases need its weights where they are
        keep_in_child(self.compiled)
        self._executed = self._read_executed()
        check_executed(self._executed, PRECISIONS[settings.floats], settings.weights, quantized)

    def initial_cache(self, streams: int = 1) -> list[RequestLane]:
        self.check_process()
        return [self._begin() for _ in range(streams // self._per_request)]

    def __call__(self, x: FloatArray, cache: list[RequestLane]) -> tuple[Outputs, list[RequestLane]]:
        self.check_process()
        errors = run(cache, x)
        if errors:
            raise RunError(f"OpenVINO failed in a step: {_reason(errors[0])}")
        if len(cache) == 1:  # few Python calls: after a step each of them is out of the CPU's caches
            return Outputs(*[array.copy() for array in cache[0].outputs]), [cache[0].swap()]
        outputs = zip(*(lane.outputs for lane in cache), strict=True)
        return Outputs(*map(np.concatenate, outputs)), [lane.swap() for lane in cache]

    def silence(self, cache: list[RequestLane], stream: int) -> list[RequestLane]:
        lane, row = cache[stream // self._per_request], stream % self._per_request
        if lane.is_done and self._per_request > 1 and self._stateful and self._contract.cache_in:
            raise RunError(f"stream {stream} cannot be reset by itself: the last step failed, but not in its "
                           "request. Call feed again first, or reset all streams.")
        lane.is_done = False
        if lane.caches:
            for array, initial in zip(lane.caches, self._initial, strict=True):
                array[row] = initial[0]
        elif self._per_request == 1:
            lane.now.reset_state()
        else:
            self._reset_states(lane.now, row)
        return cache

    def executed(self) -> dict[str, dict[str, int]]:
        return self._executed

    def _read_executed(self) -> dict[str, dict[str, int]]:
        """Read the precisions back from the compiled model: the number of layers in each, for the front end
        and for the products of the model."""
        counters: dict[str, Counter[str]] = {"front end": Counter(), "products": Counter()}
        for node in self.compiled.get_runtime_model().get_ops():
            info = node.get_rt_info()
            kind, precision, names = (info[key].astype(str) for key in (
                "layerType", "runtimePrecision", "originalLayersNames"))
            if kind in ("Const", "Input"):
                continue
            if not self._front_end.isdisjoint(names.split(",")):
                counters["front end"][precision] += 1
            elif kind in PRODUCT_LAYERS:
                counters["products"][precision] += 1
            elif kind == "Subgraph" and precision in INT8:  # with one thread: both products of a small MLP
                counters["products"][precision] += len(self._products.intersection(names.split(",")))
        return {part: dict(counts) for part, counts in counters.items() if counts}

    def close(self) -> None:
        self.compiled, self.is_closed = None, True

    def _begin(self) -> RequestLane:
        """Create the request, or with explicit caches the two requests, of streams after silence."""
        contract = self._contract
        x = np.empty((self._per_request, *contract.input.shape[1:]), np.float32)
        outputs = [np.empty((self._per_request, *spec.shape[1:]), np.float32) for spec in contract.outputs]
        if self._stateful or not contract.cache_in:
            request = self._create_request(x, outputs, (), ())
            if self._per_request > 1:  # before the first step states are empty, and `silence` sets one row
                self._reset_states(request, slice(None))
            return RequestLane(now=request, spare=request, caches=(), written=(), x=x,
                               outputs=outputs)
        caches = [np.repeat(initial, self._per_request, axis=0) for initial in self._initial]
        written = [np.empty_like(array) for array in caches]
        return RequestLane(now=self._create_request(x, outputs, caches, written),
                           spare=self._create_request(x, outputs, written, caches),
                           caches=caches, written=written, x=x, outputs=outputs)

    def _reset_states(self, request: Any, streams: int | slice) -> None:
        """Reset the states of some streams of a request to those after silence."""
        states, contract = {state.name: state for state in request.query_state()}, self._contract
        for old, new, initial in zip(contract.cache_in, contract.cache_out, self._initial, strict=True):
            state = states[state_name(old, new)]
            values = np.array(state.state.data)
            values[streams] = initial[0]
            state.state = self._tensor(values)

    def _create_request(self, x: FloatArray, outputs: Sequence[FloatArray], old: Sequence[NDArray[Any]],
                        new: Sequence[NDArray[Any]]) -> Any:
        """Create an infer request that reads and writes these buffers."""
        request, contract = self.compiled.create_infer_request(), self._contract
        keep_in_child(request)
        buffers = {contract.input.name: x}
        buffers |= zip((spec.name for spec in contract.outputs), outputs, strict=True)
        buffers |= zip((spec.name for spec in contract.cache_in), old, strict=False)
        buffers |= zip((spec.name for spec in contract.cache_out), new, strict=False)
        for name, array in buffers.items():
            request.set_tensor(name, self._tensor(array, shared_memory=True))
        return request


def state_name(old: TensorSpec, new: TensorSpec) -> str:
    """The name that MakeStateful gives to the state of a cache input and its output."""
    return f"{old.name}{new.name}"


def streams_per_request(contract: Contract, settings: OpenVinoSettings) -> int:
    """The number of streams that one infer request serves."""
    return 1 if contract.options.streams == ANY else contract.options.streams // settings.requests


def contract_json(contract: Contract) -> str:
    """The contract as JSON, as the IR stores it."""
    return json.dumps(contract.to_metadata(), sort_keys=True)


def check_device(core: Any, device: str, floats: str) -> None:
    """Raise `MissingError` if the device is not available or does not support the precision."""
    if device != CPU and not any(  # asking for all devices would load the code for all
            name == device or name.startswith(f"{device}.") for name in core.available_devices):
        raise MissingError(f"OpenVINO finds no device {device} on this machine; it finds "
                           f"{', '.join(core.available_devices)}.")
    if floats == "bf16" and not has_bf16(core, device):
        name = core.get_property(device, "FULL_DEVICE_NAME")
        raise MissingError(f"{name} does not support bf16. Make the bundle for fp32, or for int8 with "
                           "floats = \"fp32\", as in the target openvino-n100.")


def has_bf16(core: Any, device: str) -> bool:
    return "BF16" in core.get_property(device, "OPTIMIZATION_CAPABILITIES")


def check_executed(executed: dict[str, dict[str, int]], floats: str, weights: str, quantized: int) -> None:
    """Raise `MissingError` unless OpenVINO computes in the requested precisions: the front end in f32, at
    least `quantized` products in int8, and the other products in `floats`."""
    products, front_end = dict(executed["products"]), executed.get("front end", {})
    if weights == "fp16" and floats == "f32":  # OpenVINO reports such products by the dtype of their weights
        products.pop("f16", None)
    int8_products = sum(count for precision, count in products.items() if precision in INT8)
    if set(front_end) <= {"f32"} and int8_products >= quantized and set(products) <= {floats, *INT8}:
        return
    found = "; ".join(f"{part}: {', '.join(f'{count} in {precision}' for precision, count in counts.items())}"
                      for part, counts in executed.items())
    raise MissingError(f"expected {quantized} products in int8, the others in {floats} and the front end in "
                       f"f32; with these threads, OpenVINO computes here: {found}. Make the bundle for "
                       "another precision.")


def resolve_float_precision(target: Target, settings: OpenVinoSettings) -> str:
    """Return the precision of what a target does not quantise, with AUTO resolved for this machine. Raises
    `MissingError` if OpenVINO, the device or the precision is not available."""
    core = _import_openvino().Core()
    floats = settings.floats if target.precision == "int8" else target.precision
    if floats == AUTO:
        check_device(core, settings.device, "fp32")
        return "bf16" if has_bf16(core, settings.device) else "fp32"
    check_device(core, settings.device, floats)
    return floats


def model_cache_folder(bundle: Bundle) -> Path:
    """Return the folder that keeps the compiled model of this bundle. Raises `RunError` if it contains none
    and cannot be written."""
    try:
        folder = cache_folder() / PACKAGE / bundle.sha256
        if not any(folder.glob("*.blob")):
            check_writable(folder)
            folder.mkdir(parents=True, exist_ok=True)
    except (RunError, RuntimeError, OSError) as error:  # RuntimeError: the user has no home
        raise RunError(f"The target of {bundle.path} keeps the compiled model (model_cache), but no folder "
                       f"for it can be written: {error} Choose one with SATEXPORT_CACHE=DIR.") from None
    return folder


def _import_openvino() -> Any:
    try:
        return import_runtime(PACKAGE)
    except ImportError:
        raise MissingError("OpenVINO is not installed: pip install 'satexport[openvino]'.") from None


def _reason(error: Exception) -> str:
    """The last line of OpenVINO's message that is not empty; earlier lines name its source files."""
    lines = [line for line in str(error).splitlines() if line.strip()]
    return lines[-1] if lines else type(error).__name__
