"""Build the ONNX graph of one step from its weights: audio or mel -> scores, embedding.

The graph is written node by node, so that it contains only what a device needs. The same weights give the
same bytes. It uses only standard operators and static shapes (except for the number of streams, which may be
left open), and the names of its tensors describe them. `layout` has the order of its tokens.

Dimensions: N streams, F frames of the audio, d width of a token, s rows and columns of tokens, h heads.
"""

from __future__ import annotations

import math
from typing import Final

import numpy as np

from satexport.bundle.contract import Contract
from satexport.frontends.log_mel import DB_PER_LN
from satexport.frontends.nodes.log_mel import log_mel
from satexport.frontends.rows import SLANEY_MEL_32K as MEL
from satexport.graph.roles import Graph
from satexport.graph.writer import Weights, Writer
from satexport.models.htsat.layout import (
    QUARTER,
    pool_matrix,
    shift_mask,
    shifted_quarters,
    stretch_matrix,
    z_order,
)
from satexport.models.htsat.variants import EPS, FRAMES, PATCH, PIECES, SIDE, WINDOW, Stage, Variant
from satexport.models.transformer import BlockShape, BlockWriter

TOKENS: Final = WINDOW ** 2  # of a window


def build_graph(variant: Variant, w: Weights, contract: Contract) -> Graph:
    """Return the graph of one step with the contract in its metadata, checked by ONNX."""
    g = Writer(contract.opset)
    with g.role("front_end"):
        x = _image(g, w, _scaled(g, variant, w, contract))
    x = _patches(g, w, x)
    for stage in variant.stages:
        for block in range(stage.depth):
            x = _WindowBlock(g, w, stage, block).write(x)
        if stage != variant.stages[-1]:
            x = _downsample(g, w, stage, x)
    _head(g, variant, w, x, bool(contract.embedding))
    return g.finish(contract)


def _scaled(g: Writer, variant: Variant, w: Weights, contract: Contract) -> str:
    """Write the nodes from the graph's input to scaled log-mel [N, 64, 1001], with silent frames behind those
    of the audio."""
    x, scale, floor = contract.input.name, w["mel.scale"], 10 * math.log10(MEL.floor)  # dB
    if contract.options.input == "audio":
        x = log_mel(g, MEL, variant.window_samples, x)
        scale, floor = DB_PER_LN * scale, floor / DB_PER_LN
    if variant.frames < FRAMES:
        x = g.op("Pad", "mel/silent", x, g.ints(0, 0, 0, 0, 0, FRAMES - variant.frames),
                 g.scalar("mel.silence", floor))
    return g.op("Mul", "mel/scaled", x, g.constant("mel.scale", scale[:, None]))


def _image(g: Writer, w: Weights, x: str) -> str:
    """Write the nodes from scaled log-mel [N, 64, 1001] to the normalised image [N, 256, 256]: each piece is
    a product of the frames that it reads with its columns of the stretching matrix. The shift of the bands is
    added last, because each column sums to 1. (Next to the scale, OpenVINO would compute it in bf16.)"""
    pieces = []
    for number, matrix in enumerate(np.split(stretch_matrix(), PIECES, 1)):
        read = np.flatnonzero(matrix.any(1))
        first, end = int(read[0]), int(read[-1]) + 1
        frames = g.slice(f"mel/piece_{number}", x, 2, first, end)
        pieces.append(g.op("MatMul", f"image/piece_{number}", frames,
                           g.constant(f"stretch_{number}", matrix[first:end])))
    x = g.op("Concat", "image/scaled", *pieces, axis=1)
    shift = np.tile(w["mel.shift"], PIECES)
    return g.op("Add", "image", x, g.constant("image.shift", shift[:, None]))


def _patches(g: Writer, w: Weights, x: str) -> str:
    """Write the nodes from the image [N, 256, 256] to normalised tokens [N * 4096, d]."""
    side = SIDE // PATCH
    rows, columns = z_order(side)
    x = g.reshape("patch/split", x, -1, side, PATCH, side, PATCH)
    x = g.op("Transpose", "patch/grid", x, perm=[0, 1, 3, 2, 4])
    x = g.reshape("patch/list", x, -1, side ** 2, PATCH ** 2)
    x = g.op("Gather", "patch/sorted", x, g.constant("patch.order", rows * side + columns), axis=1)
    x = g.reshape("patch/rows", x, -1, PATCH ** 2)
    with g.role("patch"):
        x = g.linear("patch", x, w, "patch")
    return g.norm("patch/norm", x, w, "patch.norm", EPS)


class _WindowBlock(BlockWriter):
    """Writes one block, whose attention takes place in windows: 64 rows each of tokens [N * s * s, d]."""

    def __init__(self, g: Writer, w: Weights, stage: Stage, block: int) -> None:
        shape = BlockShape(width=stage.width, heads=stage.heads, tokens=TOKENS, queries=TOKENS, eps=EPS)
        super().__init__(g, w, stage.first + block, shape)
        self.stage, self.is_shifted = stage, stage.is_shifted(block)
        self.scale_key = f"{self.key}.scale"

    def write(self, x: str) -> str:
        """Write the nodes from tokens to tokens, both [N * s * s, d] in Z-order."""
        if not self.is_shifted:
            return super().write(x)
        return self._move("unshifted", super().write(self._move("shifted", x, 1)), -1)

    def _move(self, part: str, x: str, by: int) -> str:
        """Write the move of all tokens up and left by half a window (1) or back (-1)."""
        g, name, side = self.g, f"{self.name}/{part}", self.stage.side
        x = g.reshape(f"{name}/quarters", x, -1, (side // QUARTER) ** 2, QUARTER ** 2 * self.shape.width)
        order = g.constant(f"{part}_{side}", shifted_quarters(side, by))
        x = g.op("Gather", f"{name}/moved", x, order, axis=1)
        return g.reshape(f"{name}/rows", x, -1, self.shape.width)

    def attend(self, x: str, normed: str) -> str:
        """Write the attention in the windows of tokens [N * s * s, d]; returns rows of the same shape."""
        g, name, heads = self.g, self.name, self.shape.heads
        qkv = self.split_heads(f"{name}/qkv", self.linear("qkv", normed), 3 * heads, TOKENS)
        q, k, v = g.split(f"{name}/parts", qkv, 1, heads, heads, heads)
        return self.mix(self.scaled(q), k, v, self._placed)

    def _placed(self, logits: str) -> str:
        """Write the sum of logits [N * windows, h, 64, 64], the bias of relative positions and, if shifted,
        the mask."""
        g, key, heads, windows = self.g, f"{self.key}.position", self.shape.heads, self.stage.windows
        x = g.op("Add", f"{self.name}/logits/placed", logits, g.constant(key, self.w[key]))
        if not self.is_shifted:
            return x
        mask = g.constant(f"mask_{self.stage.side}", shift_mask(self.stage.side))
        x = g.reshape(f"{self.name}/logits/windows", x, -1, windows, heads, TOKENS, TOKENS)
        x = g.op("Add", f"{self.name}/logits/masked", x, mask)
        return g.reshape(f"{self.name}/logits/flat", x, -1, heads, TOKENS, TOKENS)


def _downsample(g: Writer, w: Weights, stage: Stage, x: str) -> str:
    """Write the nodes from tokens [N * s * s, d] to those of the next stage, [N * s * s / 4, 2 d]: the four
    that become one are next to each other."""
    name = str(stage.number)
    x = g.norm(f"{name}/norm", g.reshape(f"{name}/merged", x, -1, 4 * stage.width), w, f"{name}.norm", EPS)
    with g.role("linear", f"{name}.reduction"):
        return g.linear(f"{name}/reduction", x, w, f"{name}.reduction")


def _head(g: Writer, variant: Variant, w: Weights, x: str, has_embedding: bool) -> None:
    """Write the nodes from the last tokens [N * 64, d] to the graph's scores [N, classes] and, if it has one,
    the embedding [N, d]."""
    x = g.reshape("norm/streams", g.norm("norm", x, w, "head_norm", EPS), -1, TOKENS, variant.embedding)
    if has_embedding:
        _embedding(g, w, x)
    x = g.op("Transpose", "norm/columns", x, perm=[0, 2, 1])
    pool = pool_matrix()
    x = g.op("MatMul", "pooled", x, g.constant("pool", pool))            # [N, d, 6]
    x = g.reshape("pooled/flat", x, -1, variant.embedding * pool.shape[1])
    with g.role("head"):
        x = g.linear("head", x, w, "head")
    g.op("Sigmoid", "scores", x)


def _embedding(g: Writer, w: Weights, x: str) -> None:
    """Write the nodes from normalised tokens [N, 64, d] to the graph's embedding [N, d]: their mean, with the
    scale and shift of the last norm if a fold moved them into the head."""
    if (w["embedding.scale"] == 1).all() and not w["embedding.shift"].any():
        g.mean("embedding", x, 1)
        return
    x = g.op("Mul", "embedding/scaled", g.mean("embedding/mean", x, 1),
             g.constant("embedding.scale", w["embedding.scale"]))
    g.op("Add", "embedding", x, g.constant("embedding.shift", w["embedding.shift"]))
