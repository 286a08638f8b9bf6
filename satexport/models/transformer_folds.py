"""Exact algebra that removes work from a pre-norm transformer, for the weights that `transformer` writes.

A fold maps weights to weights of the *same* function: it moves a scale or a bias into a neighbouring layer
and replaces it by an identity (ones, zeros), for which the graph needs no node. An export proves each fold by
running the graphs before and after it. All arithmetic is in float64; the graph rounds once, to float32.

Besides the weights of the blocks, these folds need head_norm.{scale,shift}, head.{weight,bias} and
attention.scale [].
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from satexport.graph.writer import Weights


def layers(w: Weights, part: str = "q") -> list[str]:
    """Return the prefixes of the keys of the blocks, "00", "01", ...: of those with this part."""
    return sorted(key.partition(".")[0] for key in w if key.endswith(f".{part}.weight"))


def fold_norm(w: Weights, norm: str, *linears: str) -> Weights:
    """Move the scale and shift of a LayerNorm into the linear layers that follow it."""
    scale, shift = w[f"{norm}.scale"], w[f"{norm}.shift"]
    folded: Weights = {f"{norm}.scale": np.ones_like(scale), f"{norm}.shift": np.zeros_like(shift)}
    for linear in linears:
        weight = w[f"{linear}.weight"]
        folded[f"{linear}.weight"] = scale[:, None] * weight
        folded[f"{linear}.bias"] = w[f"{linear}.bias"] + shift @ weight
    return w | folded


def _fold_norms(w: Weights) -> Weights:
    """Move the scale and shift of each LayerNorm into the linear layers that follow it."""
    w = fold_norm(w, "head_norm", "head")
    for n in layers(w):
        w = fold_norm(fold_norm(w, f"{n}.norm1", f"{n}.q", f"{n}.kv"), f"{n}.norm2", f"{n}.fc1")
    return w


def fold_kv_bias(w: Weights) -> Weights:
    """Drop the key bias: it adds the same number to all logits of a query, which the softmax cancels. Move
    the value bias into `proj`: attention weights sum to 1, so attention leaves it unchanged."""
    folded: Weights = {}
    for n in layers(w):
        values = np.split(w[f"{n}.kv.bias"], 2)[1]
        folded[f"{n}.kv.bias"] = np.zeros_like(w[f"{n}.kv.bias"])
        folded[f"{n}.proj.bias"] = w[f"{n}.proj.bias"] + values @ w[f"{n}.proj.weight"]
    return w | folded


def fold_attention_scale(w: Weights) -> Weights:
    """Move the factor 1 / sqrt(d / heads) into the query projection."""
    names = [f"{n}.q.{kind}" for n in layers(w) for kind in ("weight", "bias")]
    return w | {"attention.scale": np.asarray(1.0)} | {n: w[n] * w["attention.scale"] for n in names}


TRANSFORMER_FOLDS: dict[str, Callable[[Weights], Weights]] = {  # in this order
    "LayerNorm scale and shift into the next linear layer": _fold_norms,
    "key bias dropped, value bias into the output projection": fold_kv_bias,
    "attention scale into the query projection": fold_attention_scale,
}
