"""Write the blocks of a transformer as ONNX nodes: pre-norm blocks with plain attention. A family whose
blocks differ, by norms after the residuals or by more in the attention, derives from `BlockWriter`.

Tokens are the rows of a matrix [N * T, d], so that one product applies a weight to the tokens of all N
streams. Dimensions: N streams, T tokens of a stream, d width, h heads.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from satexport.graph.writer import Array, Weights, Writer


@dataclass(frozen=True, kw_only=True)
class BlockShape:
    """The sizes of one block."""

    width: int   # d
    heads: int
    tokens: int  # T
    queries: int  # number of tokens that are read after the block: the first ones of each stream, or all
    eps: float   # of the norms


def block_weights(get: Callable[[str], Array], source: str, name: str) -> Weights:
    """Return the weights of one block as `BlockWriter` uses them. `get` returns the weight of a key under the
    names of timm, `source` is the block's prefix there and `name` its prefix here, "00":

    {norm1,norm2}.{scale,shift} [d], q [d, d], kv [d, 2d] (keys first), proj, fc1, fc2: .weight [in, out] and
    .bias [out].
    """
    weights = joint_block_weights(get, source, name)
    for kind in ("weight", "bias"):
        qkv = weights.pop(f"{name}.qkv.{kind}")
        weights[f"{name}.q.{kind}"], weights[f"{name}.kv.{kind}"] = np.split(qkv, [qkv.shape[-1] // 3], -1)
    return weights


def joint_block_weights(get: Callable[[str], Array], source: str, name: str) -> Weights:
    """Return what `block_weights` does, but with queries, keys and values in one product: qkv [d, 3d]."""
    weights: Weights = {}
    for part, key in (("qkv", "attn.qkv"), ("proj", "attn.proj"), ("fc1", "mlp.fc1"), ("fc2", "mlp.fc2")):
        weights[f"{name}.{part}.weight"] = get(f"{source}.{key}.weight").T
        weights[f"{name}.{part}.bias"] = get(f"{source}.{key}.bias")
    for norm in ("norm1", "norm2"):
        weights[f"{name}.{norm}.scale"] = get(f"{source}.{norm}.weight")
        weights[f"{name}.{norm}.shift"] = get(f"{source}.{norm}.bias")
    return weights


class BlockWriter:
    """Writes one block: x += proj(attention(norm1(x))), then x += fc2(GELU(fc1(norm2(x))))."""

    scale_key = "attention.scale"  # of the factor of the logits in the weights

    def __init__(self, g: Writer, w: Weights, layer: int, shape: BlockShape) -> None:
        self.g, self.w, self.layer, self.shape = g, w, layer, shape
        self.name, self.key = f"block_{layer:02d}", f"{layer:02d}"

    def write(self, x: str) -> str:
        """Write the nodes from tokens [N * T, d] to the tokens [N * queries, d] that are read afterwards."""
        g, name = self.g, self.name
        mixed = self.attend(x, self.norm1(f"{name}/norm1", x))
        x = g.op("Add", f"{name}/attended", self._query_rows("in", x), self.linear("proj", mixed))
        y = g.norm(f"{name}/norm2", x, self.w, f"{self.key}.norm2", self.shape.eps)
        y = g.gelu(f"{name}/gelu", self.linear("fc1", y))
        return g.op("Add", f"{name}/out", x, self.linear("fc2", y))

    def attend(self, x: str, normed: str) -> str:
        """Write the attention of tokens [N * T, d], given before and after their norm, to all keys and
        values; returns rows [N * queries, d]."""
        g, name, heads = self.g, self.name, self.shape.heads
        rows = self._query_rows("normed", normed)
        query = self.split_heads(f"{name}/q", self.linear("q", rows), heads, self.shape.queries)
        q = self.scaled(query)
        k, v = g.split(f"{name}/kv", self.keys_values(x, normed), 1, heads, heads)
        return self.mix(q, k, v, lambda logits: self.add_bias(logits, rows, query))

    def scaled(self, q: str) -> str:
        """Write the product of queries with the factor of the logits; nothing after its fold."""
        if (scale := self.w[self.scale_key]) == 1:
            return q
        return self.g.op("Mul", f"{self.name}/q/scaled", q, self.g.constant(self.scale_key, scale))

    def mix(self, q: str, k: str, v: str, add_bias: Callable[[str], str]) -> str:
        """Write the values [N, h, keys, d / h] mixed by the attention of scaled queries [N, h, queries,
        d / h] to keys, after `add_bias` of the logits [N, h, queries, keys]; returns rows [N * queries,
        d]."""
        g, name = self.g, self.name
        k = g.op("Transpose", f"{name}/k", k, perm=[0, 1, 3, 2])
        with g.role("attention", f"{self.key}.logits"):
            logits = g.op("MatMul", f"{name}/logits", q, k)
        attention = g.op("Softmax", f"{name}/softmax", add_bias(logits), axis=-1)
        with g.role("attention", f"{self.key}.mixed"):
            mixed = g.op("MatMul", f"{name}/mixed", attention, v)
        mixed = g.op("Transpose", f"{name}/mixed/tokens", mixed, perm=[0, 2, 1, 3])
        return g.reshape(f"{name}/mixed/flat", mixed, -1, self.shape.width)

    def add_bias(self, logits: str, rows: str, query: str) -> str:
        """Return the logits [N, h, queries, keys] with what a family adds to them, from the rows
        [N * queries, d] that attend and their queries [N, h, queries, d / h] before they are scaled."""
        return logits

    def keys_values(self, x: str, normed: str) -> str:
        """Write keys and values [N, 2 h, tokens, d / h] from the tokens before and after norm1."""
        return self.project("kv/new", normed, self.shape.tokens)

    def project(self, part: str, rows: str, count: int, output: str = "") -> str:
        """Write keys and values [N, 2 h, count, d / h] of rows [N * count, d]."""
        return self.split_heads(f"{self.name}/{part}", self.linear(part, rows, "kv"), 2 * self.shape.heads,
                                count, output)

    def split_heads(self, name: str, rows: str, heads: int, count: int, output: str = "") -> str:
        """Split rows [N * count, heads * f] into heads [N, heads, count, f]."""
        x = self.g.reshape(f"{name}/split", rows, -1, count, heads, self.shape.width // self.shape.heads)
        return self.g.op("Transpose", output or f"{name}/heads", x, perm=[0, 2, 1, 3])

    def by_stream(self, name: str, rows: str) -> str:
        """Return rows [N * T, d] as [N, T, d]."""
        return self.g.reshape(name, rows, -1, self.shape.tokens, self.shape.width)

    def norm1(self, name: str, x: str) -> str:
        return self.g.norm(name, x, self.w, f"{self.key}.norm1", self.shape.eps)

    def linear(self, part: str, x: str, layer: str = "") -> str:
        """Write the product with the weights of `layer`, by default `part`."""
        key = f"{self.key}.{layer or part}"
        with self.g.role("linear", key):
            return self.g.linear(f"{self.name}/{part}", x, self.w, key)

    def _query_rows(self, part: str, rows: str) -> str:
        """Return the rows that need a query: all of them, or [N * queries, d]."""
        if self.shape.queries == self.shape.tokens:
            return rows
        name = f"{self.name}/{part}/class"
        first = self.g.slice(name, self.by_stream(f"{name}/streams", rows), 1, 0, self.shape.queries)
        return self.g.reshape(f"{name}/rows", first, -1, self.shape.width)
