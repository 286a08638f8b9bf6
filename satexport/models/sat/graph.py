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


class _Block:
    """Writes one pre-norm block."""

    def __init__(self, g: Writer, variant: Variant, w: Weights, layer: int, hidden: bool) -> None:
        self.g, self.variant, self.w, self.layer = g, variant, w, layer
        self.name, self.key = f"block_{layer:02d}", f"{layer:02d}"
        self.old, self.out = f"cache_in_{layer:02d}", f"cache_out_{layer:02d}"
        self.hidden = hidden  # the cache of this layer keeps hidden tokens, not keys and values
        # only the class token is read after the last block
        self.queries = 1 if variant.cls_tokens and layer == variant.depth - 1 else variant.new_tokens

    def write(self, x: str) -> str:
        """Write the nodes from tokens [N * T, d] to tokens [N * T, d], or to [N, d] if only class tokens are
        read."""
        g, name = self.g, self.name
        mixed = self._attention(x)
        x = g.op("Add", f"{name}/attended", self._query_rows("in", x), self._linear("proj", mixed))
        y = g.norm(f"{name}/norm2", x, self.w, f"{self.key}.norm2", BLOCK_EPS)
        y = g.gelu(f"{name}/gelu", self._linear("fc1", y))
        return g.op("Add", f"{name}/out", x, self._linear("fc2", y))

    def _attention(self, x: str) -> str:
        """Write the attention of the new tokens [N * T, d] over cached and new tokens; returns the rows of
        all new tokens, or [N, d] if only class tokens are read."""
        g, name, heads = self.g, self.name, self.variant.heads
        normed = self._norm1(f"{name}/norm1", x)
        rows = self._query_rows("normed", normed)
        q = self._heads(f"{name}/q", self._linear("q", rows), heads, self.queries)
        if (self.w["attention.scale"] != 1).any():
            q = g.op("Mul", f"{name}/q/scaled", q, g.constant("attention.scale", self.w["attention.scale"]))
        kv = self._hidden_keys_values(x) if self.hidden else self._keys_values(x, normed)
        k, v = g.split(f"{name}/kv", kv, 1, heads, heads)
        k = g.op("Transpose", f"{name}/k", k, perm=[0, 1, 3, 2])
        with g.role("attention", f"{self.key}.logits"):
            logits = g.op("MatMul", f"{name}/logits", q, k)
        attention = g.op("Softmax", f"{name}/softmax", logits, axis=-1)
        with g.role("attention", f"{self.key}.mixed"):
            mixed = g.op("MatMul", f"{name}/mixed", attention, v)
        mixed = g.op("Transpose", f"{name}/mixed/tokens", mixed, perm=[0, 2, 1, 3])
        return g.reshape(f"{name}/mixed/flat", mixed, -1, self.variant.width)

    def _keys_values(self, x: str, normed: str) -> str:
        """Write keys and values [N, 2 h, C + T, d / h] of cached and new tokens, and the new cache."""
        g, name, c, t = self.g, self.name, self.variant.cache_tokens, self.variant.new_tokens
        if not self.variant.has_cache:
            return self._project("kv/new", normed, t)
        if self.layer:
            new = self._project("kv/new", normed, t, self.out if t == c else "")
            return self._append_to_cache(self.old, new, 2)
        # layer 0 caches its tokens with the position code added a second time
        last = self._by_stream(f"{name}/kept", x)
        if t > c:
            last = g.slice(f"{name}/kept/last", last, 1, t - c, t)
        last = g.op("Add", f"{name}/again", last, g.constant("again", self.w["again"]))
        self._project("kv/kept", self._norm1(f"{name}/again/norm1", last), c, self.out)
        return g.op("Concat", f"{name}/all", self.old, self._project("kv/new", normed, t), axis=2)

    def _hidden_keys_values(self, x: str) -> str:
        """Write the same for a cache of hidden tokens [N, C, d]: every step projects cached and new tokens.
        Layer 0 adds the position code to its cached tokens in every step."""
        g, name, c, t = self.g, self.name, self.variant.cache_tokens, self.variant.new_tokens
        old = self.old
        if self.layer == 0:
            old = g.op("Add", f"{name}/again", old, g.constant("again", self.w["again"]))
        new = self._by_stream(self.out if t == c else f"{name}/new", x)
        tokens = self._append_to_cache(old, new, 1)
        return self._project("kv/all", self._norm1(f"{name}/hidden/norm1", tokens), c + t)

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

    def _project(self, part: str, tokens: str, count: int, output: str = "") -> str:
        rows = self._linear(part, tokens, "kv")
        return self._heads(f"{self.name}/{part}", rows, 2 * self.variant.heads, count, output)

    def _heads(self, name: str, x: str, heads: int, tokens: int, output: str = "") -> str:
        """Split rows [N * tokens, heads * f] into heads [N, heads, tokens, f]."""
        x = self.g.reshape(f"{name}/split", x, -1, tokens, heads, self.variant.head_width)
        return self.g.op("Transpose", output or f"{name}/heads", x, perm=[0, 2, 1, 3])

    def _query_rows(self, part: str, rows: str) -> str:
        """Return the rows that need a query: all of them, or only the class tokens [N, d]."""
        if self.queries == self.variant.new_tokens:
            return rows
        name = f"{self.name}/{part}/class"
        first = self.g.slice(name, self._by_stream(f"{name}/streams", rows), 1, 0, 1)
        return self.g.reshape(f"{name}/rows", first, -1, self.variant.width)

    def _by_stream(self, name: str, rows: str) -> str:
        return self.g.reshape(name, rows, -1, self.variant.new_tokens, self.variant.width)

    def _norm1(self, name: str, x: str) -> str:
        return self.g.norm(name, x, self.w, f"{self.key}.norm1", BLOCK_EPS)

    def _linear(self, part: str, x: str, layer: str = "") -> str:
        key = f"{self.key}.{layer or part}"
        with self.g.role("linear", key):
            return self.g.linear(f"{self.name}/{part}", x, self.w, key)


def _head(g: Writer, variant: Variant, w: Weights, x: str) -> None:
    """Write the nodes from tokens [N * T, d], or class tokens [N, d], to the graph's scores [N, classes]."""
    x = g.norm("norm", x, w, "norm", BLOCK_EPS)
    if not variant.cls_tokens:
        x = g.mean("pooled", g.reshape("norm/streams", x, -1, variant.new_tokens, variant.width), 1)
    x = g.norm("head/norm", x, w, "head_norm", OUTPUT_EPS)
    with g.role("head"):
        x = g.linear("head", x, w, "head")
    g.op("Sigmoid", "scores", x)
