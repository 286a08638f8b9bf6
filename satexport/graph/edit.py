"""Edits of ONNX graphs that all rewriters share."""

from __future__ import annotations

import heapq
from collections.abc import Iterable, Mapping, MutableSequence, Sequence
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


def sort_nodes(nodes: Sequence[onnx.NodeProto], outputs: Iterable[str]) -> list[onnx.NodeProto]:
    """Return the nodes that these tensors are computed from, each after those whose outputs it reads, else in
    the given order as far as possible."""
    producers = {name: node for node in nodes for name in node.output if name}
    place = {id(node): position for position, node in enumerate(nodes)}
    needed: dict[int, onnx.NodeProto] = {}
    waiting = list(outputs)
    while waiting:
        node = producers.get(waiting.pop())
        if node is not None and id(node) not in needed:
            needed[id(node)] = node
            waiting += node.input
    missing = {key: {id(producers[name]) for name in node.input if name in producers}
               for key, node in needed.items()}
    readers: dict[int, list[int]] = {}
    for key, sources in missing.items():
        for source in sources:
            readers.setdefault(source, []).append(key)
    ready = [(place[key], key) for key, sources in missing.items() if not sources]
    heapq.heapify(ready)
    result = []
    while ready:
        _, key = heapq.heappop(ready)
        result.append(needed[key])
        for reader in readers.get(key, []):
            missing[reader].discard(key)
            if not missing[reader]:
                heapq.heappush(ready, (place[reader], reader))
    return result
