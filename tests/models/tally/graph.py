"""The graph of one step: (audio or mel, the last hidden vectors) -> (scores, the last hidden vectors)."""

from __future__ import annotations

import numpy as np

from satexport.bundle.contract import Contract
from satexport.frontends.log_mel import DB_PER_LN
from satexport.frontends.nodes.log_mel import log_mel
from satexport.graph.roles import Graph
from satexport.graph.writer import Weights, Writer
from satexport.models.family import State
from tests.models.tally.variants import LOG_MEL, Variant


def graph_weights(state: State) -> Weights:
    """Return the weights in float64, [in, out] matrices."""
    weights = {key: value.astype(np.float64) for key, value in state.items()}
    return weights | {f"{layer}.weight": weights[f"{layer}.weight"].T for layer in ("hidden", "head")}


def fold_scale(w: Weights) -> Weights:
    """Move the scale and shift of the bands into the hidden layer."""
    weight, bias = w["hidden.weight"], w["hidden.bias"] + w["band.shift"] @ w["hidden.weight"]
    return w | {"hidden.weight": w["band.scale"][:, None] * weight, "hidden.bias": bias,
                "band.scale": np.ones_like(w["band.scale"]), "band.shift": np.zeros_like(w["band.shift"])}


def build_graph(variant: Variant, w: Weights, contract: Contract) -> Graph:
    g = Writer(contract.opset)
    x = contract.input.name
    if contract.options.input == "audio":
        with g.role("front_end"):
            x = log_mel(g, LOG_MEL, variant.window_samples, x)
            x = g.op("Mul", "mel/decibels", x, g.scalar("mel.db", DB_PER_LN))
    x = g.mean("spectrum", x, 2)
    if (w["band.scale"] != 1).any():
        x = g.op("Mul", "spectrum/scaled", x, g.constant("band.scale", w["band.scale"]))
        x = g.op("Add", "spectrum/shifted", x, g.constant("band.shift", w["band.shift"]))
    with g.role("linear", "hidden"):
        x = g.linear("hidden", x, w, "hidden")
    x = g.gelu("hidden/gelu", x)
    x = g.reshape("hidden/new", x, -1, 1, variant.width)
    x = g.op("Concat", "tally/all", contract.cache_in[0].name, x, axis=1)
    g.slice(contract.cache_out[0].name, x, 1, 1, 1 + variant.memory_steps)
    x = g.mean("embedding", x, 1)
    with g.role("head"):
        x = g.linear("head", x, w, "head")
    g.op("Sigmoid", "scores", x)
    return g.finish(contract)
