"""A graph without its weights. Checkers, simplifiers and runtimes copy a whole graph several times, and for a
graph of 340 MB each copy takes more than half a second. None of them reads the values of large constants."""

from __future__ import annotations

from collections.abc import Callable
from math import prod
from typing import Any

import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

from satexport.graph.edit import replace

LARGE = 4096  # values; a smaller constant stays, because it may be a shape
TYPES = {TensorProto.FLOAT, TensorProto.FLOAT16, TensorProto.INT8, TensorProto.UINT8, TensorProto.INT32}


def is_large(constant: TensorProto) -> bool:
    return constant.data_type in TYPES and constant.HasField("raw_data") and prod(constant.dims) >= LARGE


def weight_bytes(model: onnx.ModelProto) -> int:
    """Return the size of the large constants."""
    return sum(len(constant.raw_data) for constant in model.graph.initializer if is_large(constant))


def without_weights(model: onnx.ModelProto) -> onnx.ModelProto:
    """Return a copy whose large constants are inputs of the same type and shape."""
    result = copy_small(model)
    result.graph.input.extend(
        helper.make_tensor_value_info(constant.name, constant.data_type, list(constant.dims))
        for constant in model.graph.initializer if is_large(constant))
    return result


def restore_weights(model: onnx.ModelProto, source: onnx.ModelProto) -> None:
    """Add the large constants of `source` that a node reads to a rewritten `copy_small(source)` or
    `without_weights(source)`, whose inputs they then no longer are. Constants of `source` keep their order,
    others follow."""
    large = {constant.name: constant for constant in source.graph.initializer if is_large(constant)}
    read = {name for node in model.graph.node for name in node.input}
    now = {constant.name: constant for constant in model.graph.initializer}
    now |= {name: constant for name, constant in large.items() if name in read}
    order = [constant.name for constant in source.graph.initializer if constant.name in now]
    constants = [now.pop(name) for name in order]
    replace(model.graph.initializer, [*constants, *now.values()])
    replace(model.graph.input, [value for value in model.graph.input if value.name not in large])


def split_weights(model: onnx.ModelProto, edit: Callable[[onnx.ModelProto], None] | None = None
                  ) -> tuple[bytes, dict[str, NDArray[Any]]]:
    """Return the serialised graph with its large constants as external data, and these constants by name, for
    a runtime that takes both. `edit` changes a copy of the model, which does not have these constants."""
    result = copy_small(model)
    if edit:
        edit(result)
    weights = {}
    for constant in filter(is_large, model.graph.initializer):
        weights[constant.name] = numpy_helper.to_array(constant)
        entry = result.graph.initializer.add(
            name=constant.name, dims=constant.dims, data_type=constant.data_type,
            data_location=TensorProto.EXTERNAL)
        entry.external_data.add(key="location", value="memory")
    return result.SerializeToString(), weights


def copy_small(model: onnx.ModelProto) -> onnx.ModelProto:
    """Copy a model without its large constants."""
    result = onnx.ModelProto()
    for target, source, left in ((result, model, "graph"), (result.graph, model.graph, "initializer")):
        for field, value in source.ListFields():
            if field.name == left:
                continue
            if isinstance(value, (str, bytes, int)):
                setattr(target, field.name, value)
            else:
                getattr(target, field.name).MergeFrom(value)
    result.graph.initializer.extend(
        constant for constant in model.graph.initializer if not is_large(constant))
    return result
