"""Store the cache in fewer bytes: fp16 halves it, int8 quarters it.

The graph computes as before; a cache is turned into floats where it comes in and back where it goes
out, so a program that carries it need not know. int8 is symmetric, with a scale for each head's keys
and each head's values (of hidden tokens: for each feature), from the largest value that the caches of
a calibration hold.

ONNX Runtime converts all caches at the beginning of a step, wherever the nodes stand, so a step allocates
what the state saves: this is for many streams per process, or for a state that is stored or sent.
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
from satexport.quantize.calibrate import Sample

LARGEST = 127  # of a symmetric int8
Array = NDArray[Any]


@dataclass(frozen=True)
class StoredCache:
    """A graph whose caches have another dtype, and what goes with it."""

    graph: Graph
    contract: Contract
    initial: list[Array]  # the cache of one stream after silence


def store_cache(source: Graph, contract: Contract, dtype: str, initial: Sequence[Array],
                samples: Sequence[Sample]) -> StoredCache:
    """Give a graph caches of another dtype, "fp16" or "int8"; `samples` are of a calibration, which only
    int8 needs."""
    stored = contract.with_cache_dtype(dtype)
    result = clone(source.model)
    graph = result.graph
    converted: list[Array] = []
    before: dict[str, onnx.NodeProto] = {}
    after: dict[str, onnx.NodeProto] = {}
    for old, new, silence in zip(contract.cache_in, contract.cache_out, initial, strict=True):
        scale = _scale([sample[old.name] for sample in samples]) if dtype == "int8" else None
        converted.append(_stored(silence, scale))
        before[f"{old.name}/float"] = _node(graph, "DequantizeLinear", old.name, f"{old.name}/float",
                                            TensorProto.FLOAT, scale)
        after[f"{new.name}/float"] = _node(graph, "QuantizeLinear", f"{new.name}/float", new.name,
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
    return StoredCache(source.rewritten(result), stored, converted)


def _scale(caches: Sequence[Array]) -> NDArray[np.float32]:
    """The largest value of each head or feature over the caches, as 127 steps."""
    axis = _axis(caches[0])
    others = tuple(i for i in range(caches[0].ndim) if i != axis)
    top = np.max([np.abs(cache).max(others) for cache in caches], axis=0)
    return np.asarray(np.maximum(top, 1e-6) / LARGEST, np.float32)


def _axis(cache: Array) -> int:
    """Heads of [stream, head, token, feature], features of [stream, token, feature]. Raises `UsageError` for
    another rank."""
    if cache.ndim not in (3, 4):
        raise UsageError(f"a cache of shape {cache.shape} cannot be int8; expected [stream, head, token, "
                         "feature] or [stream, token, feature]. Leave --cache-dtype out, or ask for fp16.")
    return 1 if cache.ndim == 4 else 2


def _stored(cache: Array, scale: NDArray[np.float32] | None) -> Array:
    if scale is None:
        return cache.astype(np.float16)
    shape = [-1 if i == _axis(cache) else 1 for i in range(cache.ndim)]
    return np.clip(np.round(cache / scale.reshape(shape)), -LARGEST - 1, LARGEST).astype(np.int8)


def _node(graph: onnx.GraphProto, kind: str, x: str, y: str, to: int,
          scale: NDArray[np.float32] | None) -> onnx.NodeProto:
    """The node that turns x into y, its constants in the graph: a Cast without a scale."""
    if scale is None:
        return helper.make_node("Cast", [x], [y], f"{x}/Cast", to=to)
    constants = f"{x}/scale", f"{x}/zero"
    graph.initializer.extend([numpy_helper.from_array(scale, constants[0]),
                              numpy_helper.from_array(np.zeros(scale.shape, np.int8), constants[1])])
    heads = next(v for v in (*graph.input, *graph.output) if v.name in (x, y)).type.tensor_type.shape.dim
    return helper.make_node(kind, [x, *constants], [y], f"{x}/{kind}", axis=1 if len(heads) == 4 else 2)
