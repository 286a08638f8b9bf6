"""Store the cache in fewer bytes: fp16 halves it, int8 quarters it.

The graph computes as before. Each cache is converted to float at its input and back at its output, so code
that passes the cache from step to step does not change. int8 is symmetric, with one scale for each head's
keys and for each head's values (for hidden tokens: for each feature), taken from the largest value in the
caches of a calibration.

ONNX Runtime converts all caches at the start of a step, wherever the nodes are in the graph, so a step
temporarily allocates as much memory as the smaller state saves. This helps with many streams per process, or
if the state is stored or sent.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

from satexport.bundle.contract import Contract
from satexport.errors import UsageError
from satexport.graph.edit import clone, rename, replace
from satexport.graph.roles import Graph
from satexport.quantize.observe import Sample

LARGEST = 127  # largest value of symmetric int8
Array = NDArray[Any]


@dataclass(frozen=True)
class StoredCache:
    """A graph whose caches have another dtype, with its contract and initial cache."""

    graph: Graph
    contract: Contract
    initial: list[Array]  # the cache of one stream after silence


def store_cache(source: Graph, contract: Contract, dtype: str, initial: Sequence[Array],
                samples: Sequence[Sample]) -> StoredCache:
    """Change the dtype of a graph's caches to "fp16" or "int8". `samples` are those of a calibration; only
    int8 needs them. Raises `UsageError` for caches of a rank that int8 does not support."""
    stored = contract.with_cache_dtype(dtype)
    result = clone(source.model)
    graph = result.graph
    converted: list[Array] = []
    before: dict[str, onnx.NodeProto] = {}
    after: dict[str, onnx.NodeProto] = {}
    for old, new, silence in zip(contract.cache_in, contract.cache_out, initial, strict=True):
        scale = _find_scale([sample[old.name] for sample in samples]) if dtype == "int8" else None
        converted.append(_convert_cache(silence, scale))
        before[f"{old.name}/float"] = _conversion(graph, "DequantizeLinear", old.name, f"{old.name}/float",
                                                  TensorProto.FLOAT, scale)
        after[f"{new.name}/float"] = _conversion(graph, "QuantizeLinear", f"{new.name}/float", new.name,
                                                 TensorProto.FLOAT16, scale)
        for node in graph.node:
            rename(node.input, {old.name: f"{old.name}/float", new.name: f"{new.name}/float"})
            rename(node.output, {new.name: f"{new.name}/float"})
    nodes: list[onnx.NodeProto] = []
    for node in graph.node:
        nodes += [before.pop(name) for name in node.input if name in before]
        nodes.append(node)
        nodes += [after[name] for name in node.output if name in after]
    replace(graph.node, nodes)
    caches = {spec.name for spec in (*contract.cache_in, *contract.cache_out)}
    for value in (*graph.input, *graph.output):
        if value.name in caches:
            value.type.tensor_type.elem_type = TensorProto.INT8 if dtype == "int8" else TensorProto.FLOAT16
    replace(graph.value_info, [])
    helper.set_model_props(result, stored.to_metadata())
    onnx.checker.check_model(result, full_check=False)
    return StoredCache(source.with_model(result), stored, converted)


def _find_scale(caches: Sequence[Array]) -> NDArray[np.float32]:
    """Return a scale for each head or feature, so that 127 is the largest value in the caches."""
    axis = _scale_axis(caches[0])
    others = tuple(i for i in range(caches[0].ndim) if i != axis)
    top = np.max([np.abs(cache).max(others) for cache in caches], axis=0)
    return np.asarray(np.maximum(top, 1e-6) / LARGEST, np.float32)


def _scale_axis(cache: Array) -> int:
    """Return the axis of heads in [stream, head, token, feature], of features in [stream, token, feature].
    Raises `UsageError` for another rank."""
    if cache.ndim not in (3, 4):
        raise UsageError(f"a cache of shape {cache.shape} cannot be int8; expected [stream, head, token, "
                         "feature] or [stream, token, feature]. Leave --cache-dtype out, or use fp16.")
    return 1 if cache.ndim == 4 else 2


def _convert_cache(cache: Array, scale: NDArray[np.float32] | None) -> Array:
    """Convert a cache to int8 with a scale, to fp16 without one."""
    if scale is None:
        return cache.astype(np.float16)
    shape = [-1 if i == _scale_axis(cache) else 1 for i in range(cache.ndim)]
    return np.clip(np.round(cache / scale.reshape(shape)), -LARGEST - 1, LARGEST).astype(np.int8)


def _conversion(graph: onnx.GraphProto, kind: str, x: str, y: str, to: int,
                scale: NDArray[np.float32] | None) -> onnx.NodeProto:
    """Return the node that converts x to y: `kind` with a scale, whose constants are added to the graph; a
    Cast without one."""
    if scale is None:
        return helper.make_node("Cast", [x], [y], f"{x}/Cast", to=to)
    constants = f"{x}/scale", f"{x}/zero"
    graph.initializer.extend([numpy_helper.from_array(scale, constants[0]),
                              numpy_helper.from_array(np.zeros(scale.shape, np.int8), constants[1])])
    shape = next(v for v in (*graph.input, *graph.output) if v.name in (x, y)).type.tensor_type.shape
    return helper.make_node(kind, [x, *constants], [y], f"{x}/{kind}",
                            axis=1 if len(shape.dim) == 4 else 2)
