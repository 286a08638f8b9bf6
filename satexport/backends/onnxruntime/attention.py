"""Fuse the attention of a block with int8 products into one node of ONNX Runtime: `com.microsoft` QAttention.

The node computes queries, keys and values in one product, writes each head where it is read, appends keys and
values to the cached ones, and multiplies and mixes the heads in float. It stands for twelve nodes: two
products, two Reshape, four Transpose, a Concat, a Split, the logits, the softmax and the mixed values. A new
cache is a Slice of the node's second output, which has cached and new keys and values. The arithmetic is the
same up to the order of sums; `write.fuse` runs both graphs and says how much scores may differ. Attention,
the node for float products, is slower than the twelve nodes.

The nodes are found by their pattern, whoever wrote them. Where something differs (a bias of the logits,
queries of only some tokens, several streams with a cache), nothing is changed.

Dimensions: N streams, T new tokens, P cached tokens, h heads, f features of a head, d = h f.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import helper, numpy_helper

from satexport.backends.onnxruntime.graph_view import GraphView, Product
from satexport.graph.edit import clone, drop_unread, replace, sort_nodes

DOMAIN = "com.microsoft"
HEADS_FIRST, LAST_TWO = [0, 2, 1, 3], [0, 1, 3, 2]  # permutations
Ranges = list[tuple[int, int]]


@dataclass(frozen=True, kw_only=True)
class _Heads:
    """Rows [N * T, heads * f] of a product, split into heads [N, heads, T, f]."""

    product: Product
    tokens: int
    heads: int
    features: int


@dataclass(frozen=True, kw_only=True)
class _Attention:
    """An attention that one node can compute."""

    query: _Heads
    both: _Heads                      # keys and values of the new tokens, [N, 2 h, T, f]
    past: str                         # those of the cached tokens, [1, 2 h, P, f]; "" without a cache
    cached: int                       # P
    present: dict[str, tuple[int, int]]  # tensors that are read elsewhere, as ranges of cached and new tokens
    output: str                       # rows [N * T, d]


def fuse_attention(model: onnx.ModelProto) -> tuple[onnx.ModelProto, int]:
    """Return the model with every attention fused that can be, and how many there are."""
    model = clone(model)
    graph, view = model.graph, GraphView(model.graph)
    found = [attention for node in graph.node if node.op_type == "Softmax"
             if (attention := _match(view, node)) is not None]
    if not found:
        return model, 0
    nodes: list[onnx.NodeProto] = []
    constants: dict[str, NDArray[np.generic]] = {}
    for attention in found:
        nodes += _write(view, attention, constants)
    written = {name for node in nodes for name in node.output}
    nodes += [node for node in graph.node if not written & set(node.output)]
    graph.initializer.extend(numpy_helper.from_array(np.ascontiguousarray(array), name)
                             for name, array in constants.items())
    replace(graph.node, sort_nodes(nodes, [output.name for output in graph.output]))
    drop_unread(graph)
    replace(graph.value_info, [])  # some of these tensors no longer exist
    if DOMAIN not in {entry.domain for entry in model.opset_import}:
        model.opset_import.append(helper.make_opsetid(DOMAIN, 1))
    return model, len(found)


def _match(view: GraphView, softmax: onnx.NodeProto) -> _Attention | None:
    """Return the attention of a softmax; None if a node of the pattern differs."""
    logits, mixed = view.producer(softmax.input[0], "MatMul"), view.only_reader(softmax.output[0], "MatMul")
    if logits is None or mixed is None:
        return None
    if view.number(softmax, "axis", -1) not in (-1, 3) or not view.is_read_once(logits.output[0]):
        return None
    keys = view.transposed(logits.input[1], LAST_TWO)
    split = view.producer(keys, "Split") if keys else None
    query = _find_heads(view, logits.input[0])
    tokens = view.only_reader(mixed.output[0], "Transpose")
    flat = view.only_reader(tokens.output[0], "Reshape") if tokens is not None else None
    if split is None or query is None or tokens is None or flat is None:
        return None
    h, width = query.heads, query.heads * query.features
    if (list(split.output) != [keys, mixed.input[1]] or view.number(split, "axis") != 1
            or view.constant(split, 1) != [h, h] or view.permutation(tokens) != HEADS_FIRST
            or view.constant(flat, 1) != [-1, width]):
        return None
    return _match_keys(view, query, split.input[0], flat.output[0])


def _match_keys(view: GraphView, query: _Heads, joined: str, output: str) -> _Attention | None:
    """Return the attention if `joined` has the keys and values of cached tokens, if any, and then those of
    the new tokens."""
    inner, leaves = view.walk(joined, ("Concat", "Split"))
    new = {name: heads for name in leaves if (heads := _find_heads(view, name))}
    old = [name for name in leaves if name not in new]
    if len(new) != 1 or len(old) > 1:
        return None
    (name, both), = new.items()
    shape = view.shape(old[0]) if old else [1, both.heads, 0, both.features]
    is_split_alike = (both.heads, both.tokens, both.features) == (
        2 * query.heads, query.tokens, query.features)
    if not is_split_alike or not query.product.shares_input(both.product) or shape is None or (
            shape[:2] != [1, both.heads]):
        return None
    cached = shape[2]
    ranges: dict[str, Ranges] = {name: [(cached, cached + both.tokens)]} | {n: [(0, cached)] for n in old}
    if not all(_follow(view, node, ranges) for node in reversed(inner)):
        return None
    within = {id(node) for node in inner}
    present = {n: found for n, found in ranges.items()
               if n not in (*old, joined) and view.is_read_outside(n, within)}
    if (ranges[joined] != [(0, cached + both.tokens)] or view.is_read_outside(joined, within, 1)
            or any(len(found) != 1 for found in present.values()) or (present and not old)):
        return None
    return _Attention(query=query, both=both, past=old[0] if old else "", cached=cached, output=output,
                      present={n: found[0] for n, found in present.items()})


def _follow(view: GraphView, node: onnx.NodeProto, ranges: dict[str, Ranges]) -> bool:
    """Add which tokens the outputs of a Concat or Split of tokens have; False if that is not known."""
    if view.number(node, "axis") != 2:
        return False
    tokens = [r for name in node.input[:None if node.op_type == "Concat" else 1] for r in ranges[name]]
    if node.op_type == "Concat":
        ranges[node.output[0]] = _merge(tokens)
        return True
    if (sizes := view.constant(node, 1)) is None:
        return False
    single = [position for first, end in tokens for position in range(first, end)]
    for name, size in zip(node.output, sizes, strict=True):
        ranges[name], single = _merge([(p, p + 1) for p in single[:size]]), single[size:]
    return True


def _merge(ranges: Sequence[tuple[int, int]]) -> Ranges:
    """Join neighbouring ranges."""
    merged: Ranges = []
    for first, end in ranges:
        joins = merged and merged[-1][1] == first
        merged.append((merged.pop()[0] if joins else first, end))
    return merged


def _find_heads(view: GraphView, name: str) -> _Heads | None:
    """Return the rows that a tensor [N, heads, T, f] was split from."""
    rows = view.transposed(name, HEADS_FIRST)
    reshape = view.producer(rows, "Reshape") if rows else None
    shape = view.constant(reshape, 1) if reshape is not None else None
    if reshape is None or shape is None or len(shape) != 4 or shape[0] != -1:
        return None
    product = view.product(reshape.input[0])
    return _Heads(product=product, tokens=shape[1], heads=shape[2], features=shape[3]) if product else None


def _write(view: GraphView, attention: _Attention,
           constants: dict[str, NDArray[np.generic]]) -> list[onnx.NodeProto]:
    """Return the nodes of an attention, and add their constants."""
    query, both = attention.query, attention.both
    name, h, width = f"{attention.output}/attention", query.heads, query.heads * query.features
    products = query.product, both.product
    weight = np.concatenate([product.weight for product in products], 1)
    rows = f"{name}/rows"

    def constant(part: str, array: NDArray[np.generic]) -> str:
        constants[f"{name}/{part}"] = array
        return f"{name}/{part}"

    def reshape(result: str, x: str, *shape: int) -> onnx.NodeProto:
        return helper.make_node("Reshape", [x, constant(f"{result}/shape", np.array(shape, np.int64))],
                                [result], result)

    nodes = [reshape(rows, query.product.rows, -1, query.tokens, len(weight))]
    past = f"{name}/past" if attention.past else ""
    if past:
        nodes.append(reshape(past, attention.past, 2, -1, h, attention.cached, query.features))
    inputs = [rows, constant("weight", weight), constant("bias", np.hstack([p.bias for p in products])),
              query.product.input_scale, constant("scale", np.hstack([p.scale for p in products])), "",
              query.product.input_zero]
    outputs = [f"{name}/streams", f"{name}/present"][:2 if past else 1]
    nodes.append(helper.make_node("QAttention", inputs + ["", past] * bool(past), outputs, name,
                                  domain=DOMAIN, num_heads=h, scale=1.0))
    nodes.append(reshape(attention.output, outputs[0], -1, width))
    if attention.present:
        total = attention.cached + query.tokens
        nodes.append(reshape(f"{name}/all", outputs[1], -1, 2 * h, total, query.features))
    for result, (first, end) in attention.present.items():
        limits = [constant(f"{result}/{i}", np.array([i], np.int64)) for i in (first, end, 2)]
        nodes.append(helper.make_node("Slice", [f"{name}/all", *limits], [result], result))
    return nodes
