"""Write a tagger whose tokens are a class token, a distillation token and the patches of a spectrogram, as
ONNX nodes; and fold what happens before its patches.

Weights: mel.scale [] and mel.shift [] (the normalisation of the log-mel), patch.weight [d, 1, 16, 16],
patch.bias [d], position [T, d] (with class and distillation token in the first rows), block.eps [], head.eps
[], norm.{scale,shift} and head_norm.{scale,shift} [d], head.{weight,bias}, attention.scale []
and those of `block_weights`.

Dimensions: N streams, F frames, T tokens of a stream, d width.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from satexport.graph.writer import Weights, Writer
from satexport.models.patches import EXTRA_TOKENS, PATCH
from satexport.models.transformer import BlockShape, BlockWriter
from satexport.models.transformer_folds import TRANSFORMER_FOLDS


@dataclass(frozen=True, kw_only=True)
class PatchShape:
    """The sizes of such a tagger."""

    bands: int
    frames: int  # F
    stride: int  # of the patches, in bands and in frames
    tokens: int  # T
    width: int   # d
    heads: int
    depth: int   # blocks


def normalise(g: Writer, w: Weights, x: str) -> str:
    """Write the nodes from log-mel to normalised log-mel; none if a fold moved the normalisation away."""
    if w["mel.scale"] == 1:
        return x
    x = g.op("Mul", "mel/scaled", x, g.constant("mel.scale", w["mel.scale"]))
    return g.op("Add", "mel/shifted", x, g.constant("mel.shift", w["mel.shift"]))


def write_tagger(g: Writer, w: Weights, shape: PatchShape, x: str) -> None:
    """Write the nodes from normalised log-mel [N, bands, F] to the values `embedding` [N, d] and `scores` [N,
    classes]."""
    x = _tokens(g, w, shape, x)
    for layer in range(shape.depth):
        is_last = layer == shape.depth - 1  # only the two extra tokens are read after it
        x = BlockWriter(g, w, layer, BlockShape(
            width=shape.width, heads=shape.heads, tokens=shape.tokens,
            queries=EXTRA_TOKENS if is_last else shape.tokens, eps=float(w["block.eps"]))).write(x)
    x = g.norm("norm", x, w, "norm", float(w["block.eps"]))
    x = g.mean("embedding", g.reshape("norm/streams", x, -1, EXTRA_TOKENS, shape.width), 1)
    x = g.norm("head/norm", x, w, "head_norm", float(w["head.eps"]))
    with g.role("head"):
        x = g.linear("head", x, w, "head")
    g.op("Sigmoid", "scores", x)


def _tokens(g: Writer, w: Weights, shape: PatchShape, x: str) -> str:
    """Write the nodes from normalised log-mel to tokens [N * T, d]: class and distillation token, then the
    patches, frequency-major; with the position table added."""
    x = g.reshape("patch/channel", x, -1, 1, shape.bands, shape.frames)
    inputs = [x, g.constant("patch.weight", w["patch.weight"])]
    if w["patch.bias"].any():
        inputs.append(g.constant("patch.bias", w["patch.bias"]))
    with g.role("patch"):
        x = g.op("Conv", "patch/product", *inputs, strides=[shape.stride] * 2, kernel_shape=[PATCH] * 2)
    x = g.reshape("patch/columns", x, -1, shape.width, shape.tokens - EXTRA_TOKENS)
    x = g.op("Transpose", "patch/patches", x, perm=[0, 2, 1])
    x = g.op("Pad", "patch/after_extra", x, g.ints(0, EXTRA_TOKENS, 0, 0, 0, 0))  # zeros: they are added next
    x = g.op("Add", "patch/placed", x, g.constant("position", w["position"]))
    return g.reshape("tokens", x, -1, shape.width)


def _fold_normalisation(w: Weights) -> Weights:
    """Move scale and shift of the log-mels into the patch convolution, and its bias into the position table.
    Frames that are zeros before the normalisation stay zeros."""
    weight = w["patch.weight"]
    bias = w["patch.bias"] + w["mel.shift"] * weight.sum((1, 2, 3))
    position = w["position"].copy()
    position[EXTRA_TOKENS:] += bias
    return w | {"mel.scale": np.asarray(1.0), "mel.shift": np.asarray(0.0), "position": position,
                "patch.weight": w["mel.scale"] * weight, "patch.bias": np.zeros_like(bias)}


FOLDS: dict[str, Callable[[Weights], Weights]] = {  # in this order
    "normalisation and bias of the patches into the position table": _fold_normalisation,
    **TRANSFORMER_FOLDS}
