"""Build the ONNX graph of one step from its weights: audio or mel -> scores.

The graph is written node by node, so that it contains only what a device needs. The same weights give the
same bytes. It uses only standard operators and static shapes (except for the number of streams, which may be
left open), and the names of its tensors describe them.

Dimensions: N streams, F frames of the audio, T tokens of a stream, d width.
"""

from __future__ import annotations

from satexport.bundle.contract import Contract
from satexport.frontends.nodes.kaldi import kaldi_mel
from satexport.frontends.rows import KALDI_MEL_16K as KALDI_MEL
from satexport.graph.roles import Graph
from satexport.graph.writer import Weights, Writer
from satexport.models.ast.variants import BANDS, EXTRA_TOKENS, PATCH, Variant
from satexport.models.transformer import BlockShape, BlockWriter


def build_graph(variant: Variant, w: Weights, contract: Contract) -> Graph:
    """Return the graph of one step with the contract in its metadata, checked by ONNX."""
    g = Writer(contract.opset)
    x = contract.input.name
    with g.role("front_end"):
        if contract.options.input == "audio":
            x = kaldi_mel(g, KALDI_MEL, variant.window_samples, x)
        x = _padded(g, variant, w, x)
    x = _tokens(g, variant, w, x)
    for layer in range(variant.depth):
        is_last = layer == variant.depth - 1  # only the two extra tokens are read after it
        x = BlockWriter(g, w, layer, BlockShape(
            width=variant.width, heads=variant.heads, tokens=variant.tokens,
            queries=EXTRA_TOKENS if is_last else variant.tokens, eps=float(w["block.eps"]))).write(x)
    _head(g, variant, w, x)
    return g.finish(contract)


def _padded(g: Writer, variant: Variant, w: Weights, x: str) -> str:
    """Write the nodes from log-mel [N, 128, F] to normalised log-mel with all frames that patches read."""
    x = g.op("Pad", "mel/padded", x, g.ints(0, 0, 0, 0, 0, variant.used_frames - variant.frames))
    if w["mel.scale"] != 1:
        x = g.op("Mul", "mel/scaled", x, g.constant("mel.scale", w["mel.scale"]))
        x = g.op("Add", "mel/shifted", x, g.constant("mel.shift", w["mel.shift"]))
    return x


def _tokens(g: Writer, variant: Variant, w: Weights, x: str) -> str:
    """Write the nodes from normalised log-mel to tokens [N * T, d]: class and distillation token, then the
    patches, frequency-major; with the position table added."""
    x = g.reshape("patch/channel", x, -1, 1, BANDS, variant.used_frames)
    inputs = [x, g.constant("patch.weight", w["patch.weight"])]
    if w["patch.bias"].any():
        inputs.append(g.constant("patch.bias", w["patch.bias"]))
    with g.role("patch"):
        x = g.op("Conv", "patch/product", *inputs, strides=[variant.stride] * 2, kernel_shape=[PATCH] * 2)
    x = g.reshape("patch/columns", x, -1, variant.width, variant.tokens - EXTRA_TOKENS)
    x = g.op("Transpose", "patch/patches", x, perm=[0, 2, 1])
    x = g.op("Pad", "patch/after_extra", x, g.ints(0, EXTRA_TOKENS, 0, 0, 0, 0))  # zeros: they are added next
    x = g.op("Add", "patch/placed", x, g.constant("position", w["position"]))
    return g.reshape("tokens", x, -1, variant.width)


def _head(g: Writer, variant: Variant, w: Weights, x: str) -> None:
    """Write the nodes from the two extra tokens [N * 2, d] to the graph's scores [N, classes]."""
    x = g.norm("norm", x, w, "norm", float(w["block.eps"]))
    x = g.mean("embedding", g.reshape("norm/streams", x, -1, EXTRA_TOKENS, variant.width), 1)
    x = g.norm("head/norm", x, w, "head_norm", float(w["head.eps"]))
    with g.role("head"):
        x = g.linear("head", x, w, "head")
    g.op("Sigmoid", "scores", x)
