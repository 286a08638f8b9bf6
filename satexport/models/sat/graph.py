"""Build the ONNX graph of one step from its weights: (audio or mel, caches) -> (scores, new caches).

The graph is written node by node, so that it contains only what a device needs: it takes a waveform, caches
keys and values, and has neither identities nor unused outputs. The same weights give the same bytes. It uses
only standard operators and static shapes (except for the number of streams, which may be left open), and the
names of its tensors describe them.

Tokens are the rows of a matrix [N * T, d], so that one product applies a weight to the tokens of all N
streams. Dimensions: N streams, T new tokens, C cached tokens, d width, h heads.
"""

from __future__ import annotations

import numpy as np

from satexport.bundle.contract import Contract
from satexport.frontends.log_mel import DB_PER_LN
from satexport.frontends.nodes.log_mel import log_mel
from satexport.graph.roles import Graph
from satexport.graph.writer import Weights, Writer
from satexport.models.sat.interface import keeps_hidden
from satexport.models.sat.variants import BLOCK_EPS, LOG_MEL, OUTPUT_EPS, PATCH, ROWS, Variant
from satexport.models.transformer import BlockShape, BlockWriter

OPSETS = range(17, 24)  # opset 17 adds LayerNormalization, opset 20 adds Gelu


def build_graph(variant: Variant, w: Weights, contract: Contract) -> Graph:
    """Return the graph of one step with the contract in its metadata, checked by ONNX."""
    g = Writer(contract.opset)
    with g.role("front_end"):
        x = _features(g, variant, w, contract)
    x = _tokens(g, variant, w, x)
    for layer in range(variant.depth):
        x = _Block(g, variant, w, layer, keeps_hidden(variant, contract.options, layer)).write(x)
    _head(g, variant, w, x)
    return g.finish(contract)


def _features(g: Writer, variant: Variant, w: Weights, contract: Contract) -> str:
    """Write the nodes from the graph's input to scaled log-mel [N, 64, F]."""
    x, scale = contract.input.name, w["mel.scale"]
    if contract.options.input == "audio":
        x = log_mel(g, LOG_MEL, variant.window_samples, x)
        x = g.slice("mel/used", x, 2, 0, variant.used_frames)
        scale = scale * DB_PER_LN
    x = g.op("Mul", "mel/scaled", x, g.constant("mel.scale", scale[:, None]))
    if w["mel.shift"].any():
        x = g.op("Add", "mel/shifted", x, g.constant("mel.shift", w["mel.shift"][:, None]))
    return x


def _tokens(g: Writer, variant: Variant, w: Weights, x: str) -> str:
    """Write the nodes from scaled log-mel [N, 64, F] to tokens [N * T, d], frequency-major, with position
    codes added."""
    columns, patches = variant.columns, ROWS * variant.columns
    x = g.reshape("patch/grid", x, -1, ROWS, PATCH, columns, PATCH)
    x = g.op("Transpose", "patch/rows", x, perm=[0, 1, 3, 2, 4])
    x = g.reshape("patch/patches", x, -1, patches, PATCH**2)
    with g.role("patch"):
        x = g.op("MatMul", "patch/product", x, g.constant("patch.weight", w["patch.weight"]))
    position = w["position"].reshape(patches, variant.width)
    if variant.cls_tokens:  # prepend a row of zeros; adding `position` makes it the class token
        x = g.op("Pad", "patch/after_class", x, g.ints(0, 1, 0, 0, 0, 0))
        position = np.vstack((w["token"], position))
    x = g.op("Add", "patch/placed", x, g.constant("position", position))
    return g.reshape("tokens", x, -1, variant.width)


class _Block(BlockWriter):
    """Writes one block, whose tokens also attend to cached tokens."""

    def __init__(self, g: Writer, variant: Variant, w: Weights, layer: int, hidden: bool) -> None:
        # only the class token is read after the last block
        queries = 1 if variant.cls_tokens and layer == variant.depth - 1 else variant.new_tokens
        super().__init__(g, w, layer, BlockShape(
            width=variant.width, heads=variant.heads, tokens=variant.new_tokens, queries=queries,
            eps=BLOCK_EPS))
        self.variant = variant
        self.old, self.out = f"cache_in_{layer:02d}", f"cache_out_{layer:02d}"
        self.hidden = hidden  # the cache of this layer keeps hidden tokens, not keys and values

    def keys_values(self, x: str, normed: str) -> str:
        """Write keys and values [N, 2 h, C + T, d / h] of cached and new tokens, and the new cache."""
        g, name, c, t = self.g, self.name, self.variant.cache_tokens, self.variant.new_tokens
        if not self.variant.has_cache:
            return super().keys_values(x, normed)
        if self.hidden:
            return self._hidden_keys_values(x)
        if self.layer:
            new = self.project("kv/new", normed, t, self.out if t == c else "")
            return self._append_to_cache(self.old, new, 2)
        # layer 0 caches its tokens with the position code added a second time
        last = self.by_stream(f"{name}/kept", x)
        if t > c:
            last = g.slice(f"{name}/kept/last", last, 1, t - c, t)
        last = g.op("Add", f"{name}/again", last, g.constant("again", self.w["again"]))
        self.project("kv/kept", self.norm1(f"{name}/again/norm1", last), c, self.out)
        return g.op("Concat", f"{name}/all", self.old, self.project("kv/new", normed, t), axis=2)

    def _hidden_keys_values(self, x: str) -> str:
        """Write the same for a cache of hidden tokens [N, C, d]: every step projects cached and new tokens.
        Layer 0 adds the position code to its cached tokens in every step."""
        g, name, c, t = self.g, self.name, self.variant.cache_tokens, self.variant.new_tokens
        old = self.old
        if self.layer == 0:
            old = g.op("Add", f"{name}/again", old, g.constant("again", self.w["again"]))
        new = self.by_stream(self.out if t == c else f"{name}/new", x)
        tokens = self._append_to_cache(old, new, 1)
        return self.project("kv/all", self.norm1(f"{name}/hidden/norm1", tokens), c + t)

    def _append_to_cache(self, old: str, new: str, axis: int) -> str:
        """Concatenate cached and new tokens. The last C of them are the new cache; its node comes first, so
        that no other tensor must stay in memory until the runtime writes the cache."""
        g, name, c, t = self.g, self.name, self.variant.cache_tokens, self.variant.new_tokens
        parts = [old, new]
        if t > c:
            outputs = (f"{name}/new/first", self.out)
            parts = [old, *g.split(f"{name}/new/parts", new, axis, t - c, c, outputs=outputs)]
        elif t < c:
            first, last = g.split(f"{name}/old/parts", old, axis, t, c - t)
            parts = [first, g.op("Concat", self.out, last, new, axis=axis)]
        return g.op("Concat", f"{name}/all", *parts, axis=axis)


def _head(g: Writer, variant: Variant, w: Weights, x: str) -> None:
    """Write the nodes from tokens [N * T, d], or class tokens [N, d], to the graph's scores [N, classes]."""
    x = g.norm("embedding" if variant.cls_tokens else "norm", x, w, "norm", BLOCK_EPS)
    if not variant.cls_tokens:
        x = g.mean("embedding", g.reshape("norm/streams", x, -1, variant.new_tokens, variant.width), 1)
    x = g.norm("head/norm", x, w, "head_norm", OUTPUT_EPS)
    with g.role("head"):
        x = g.linear("head", x, w, "head")
    g.op("Sigmoid", "scores", x)
