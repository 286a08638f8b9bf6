"""Build the ONNX graph of one step from its weights: audio or mel -> scores.

The graph is written node by node, so that it contains only what a device needs. The same weights give the
same bytes. It uses only standard operators and static shapes (except for the number of streams, which may be
left open), and the names of its tensors describe them.
"""

from __future__ import annotations

from satexport.bundle.contract import Contract
from satexport.frontends.nodes.preemphasis_mel import preemphasis_mel
from satexport.graph.roles import Graph
from satexport.graph.writer import Weights, Writer
from satexport.models.passt.variants import BANDS, Variant
from satexport.models.patch_graph import PatchShape, normalise, write_tagger


def build_graph(variant: Variant, w: Weights, contract: Contract) -> Graph:
    """Return the graph of one step with the contract in its metadata, checked by ONNX."""
    g = Writer(contract.opset)
    x = contract.input.name
    with g.role("front_end"):
        if contract.options.input == "audio":
            x = preemphasis_mel(g, variant.mel, variant.window_samples, x)
        x = normalise(g, w, x)
    write_tagger(g, w, PatchShape(
        bands=BANDS, frames=variant.frames, stride=variant.stride, tokens=variant.tokens, width=variant.width,
        heads=variant.heads, depth=variant.depth), x)
    return g.finish(contract)
