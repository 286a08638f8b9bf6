"""Edits of ONNX graphs that all rewriters share."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, MutableSequence
from typing import Any

import onnx


def clone(model: onnx.ModelProto) -> onnx.ModelProto:
    """A deep copy of a model."""
    copy = onnx.ModelProto()
    copy.CopyFrom(model)
    return copy


def replace(field: Any, entries: Iterable[Any]) -> None:
    """Replace all entries of a repeated field (nodes, initializers, shapes, metadata). `entries` may contain
    some of the old ones."""
    new = list(entries)
    del field[:]
    field.extend(new)


def rename(names: MutableSequence[str], new_names: Mapping[str, str]) -> None:
    """Rename tensors in a list of a node's inputs or outputs; `new_names` maps old names to new ones."""
    for position, name in enumerate(names):
        names[position] = new_names.get(name, name)


def drop_unread(graph: onnx.GraphProto) -> None:
    """Remove initializers that no node reads."""
    read = {name for node in graph.node for name in node.input}
    replace(graph.initializer, [constant for constant in graph.initializer if constant.name in read])


def opset_of(model: onnx.ModelProto) -> int:
    """The version of the standard ONNX operator set that a model uses; 0 if it does not import it."""
    return max((entry.version for entry in model.opset_import if entry.domain in ("", "ai.onnx")), default=0)
