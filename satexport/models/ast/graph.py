"""Build the ONNX graph of one step from its weights: audio or mel -> scores.

The graph is written node by node, so that it contains only what a device needs. The same weights give the
same bytes. It uses only standard operators and static shapes (except for the number of streams, which may be
left open), and the names of its tensors describe them.
"""

from __future__ import annotations

from satexport.bundle.contract import Contract
from satexport.frontends.nodes.kaldi import kaldi_mel
from satexport.frontends.rows import KALDI_MEL_16K as KALDI_MEL
from satexport.graph.roles import Graph
from satexport.graph.writer import Weights, Writer
from satexport.models.ast.variants import BANDS, Variant
from satexport.models.patch_graph import PatchShape, normalise, write_tagger


def build_graph(variant: Variant, w: Weights, contract: Contract) -> Graph:
    """Return the graph of one step with the contract in its metadata, checked by ONNX. The log-mel is padded
    with zero frames to all that patches read, before it is normalised."""
    g = Writer(contract.opset)
    x, frames = contract.input.name, variant.used_frames
    with g.role("front_end"):
        if contract.options.input == "audio":
            x = kaldi_mel(g, KALDI_MEL, variant.window_samples, x)
        x = g.op("Pad", "mel/padded", x, g.ints(0, 0, 0, 0, 0, frames - variant.frames))
        x = normalise(g, w, x)
    write_tagger(g, w, PatchShape(
        bands=BANDS, frames=frames, stride=variant.stride, tokens=variant.tokens, width=variant.width,
        heads=variant.heads, depth=variant.depth), x)
    return g.finish(contract)
