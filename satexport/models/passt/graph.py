"""Build the ONNX graph of one step from its weights: audio or mel -> scores.

The graph is written node by node, so that it contains only what a device needs. The same weights give the
same bytes. It uses only standard operators and static shapes (except for the number of streams, which may be
left open), and the names of its tensors describe them.

Dimensions: N streams, F frames of the audio, T tokens of a stream, d width.
"""

from __future__ import annotations

from satexport.bundle.contract import Contract
from satexport.frontends.nodes.preemphasis_mel import preemphasis_mel
from satexport.graph.roles import Graph
from satexport.graph.writer import Weights, Writer
from satexport.models.passt.variants import BANDS, BLOCK_EPS, EXTRA_TOKENS, HEAD_EPS, PATCH, Variant
from satexport.models.transformer import BlockShape, BlockWriter


def build_graph(variant: Variant, w: Weights, contract: Contract) -> Graph:
    """Return the graph of one step with the contract in its metadata, checked by ONNX."""
    g = Writer(contract.opset)
    x = contract.input.name
    with g.role("front_end"):
        if contract.options.input == "audio":
            x = preemphasis_mel(g, variant.mel, variant.window_samples, x)
        if w["mel.scale"] != 1:
            x = g.op("Mul", "mel/scaled", x, g.constant("mel.scale", w["mel.scale"]))
            x = g.op("Add", "mel/shifted", x, g.constant("mel.shift", w["mel.shift"]))
    x = _tokens(g, variant, w, x)
    for layer in range(variant.depth):
        is_last = layer == variant.depth - 1  # only the two extra tokens are read after it
        x = BlockWriter(g, w, layer, BlockShape(
            width=variant.width, heads=variant.heads, tokens=variant.tokens,
            queries=EXTRA_TOKENS if is_last else variant.tokens, eps=BLOCK_EPS)).write(x)
    _head(g, variant, w, x)
    return g.finish(contract)


def _tokens(g: Writer, variant: Variant, w: Weights, x: str) -> str:
    """Write the nodes from normalised log-mel [N, 128, F] to tokens [N * T, d]: class and distillation token,
    then the patches, frequency-major; with the position table added."""
    x = g.reshape("patch/channel", x, -1, 1, BANDS, variant.frames)
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
    x = g.norm("norm", x, w, "norm", BLOCK_EPS)
    x = g.mean("embedding", g.reshape("norm/streams", x, -1, EXTRA_TOKENS, variant.width), 1)
    x = g.norm("head/norm", x, w, "head_norm", HEAD_EPS)
    with g.role("head"):
        x = g.linear("head", x, w, "head")
    g.op("Sigmoid", "scores", x)
