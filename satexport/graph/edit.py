"""Edits of ONNX graphs that every rewriter needs."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, MutableSequence
from typing import Any

import onnx


def clone(model: onnx.ModelProto) -> onnx.ModelProto:
    """A model of its own with the same content."""
    copy = onnx.ModelProto()
    copy.CopyFrom(model)
    return copy


def replace(field: Any, entries: Iterable[Any]) -> None:
    """Give a repeated field (nodes, initializers, shapes, metadata) other entries, which may be among those
    that it has."""
    kept = list(entries)
    del field[:]
    field.extend(kept)


def rename(names: MutableSequence[str], now: Mapping[str, str]) -> None:
    """Rename the tensors among a node's inputs or outputs that have a new name."""
    for position, name in enumerate(names):
        names[position] = now.get(name, name)


def drop_unread(graph: onnx.GraphProto) -> None:
    """Remove initializers that no node reads."""
    read = {name for node in graph.node for name in node.input}
    replace(graph.initializer, [constant for constant in graph.initializer if constant.name in read])


def opset_of(model: onnx.ModelProto) -> int:
    """The version of ONNX's own operators that a model is written in; 0 if it does not say one."""
    return max((entry.version for entry in model.opset_import if entry.domain in ("", "ai.onnx")), default=0)
