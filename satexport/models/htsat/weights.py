"""Convert a state to the graph's weights, [in, out] matrices, and fold them."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import numpy as np
from numpy.typing import NDArray

from satexport.graph.writer import Array, Weights
from satexport.models.htsat.layout import pool_matrix, position_index
from satexport.models.htsat.variants import EPS, Variant
from satexport.models.transformer import joint_block_weights
from satexport.models.transformer_folds import fold_norm, layers


def graph_weights(variant: Variant, state: Mapping[str, NDArray[np.float32]]) -> Weights:
    """Return the published weights as the graph uses them, before any fold; d width of a stage, D of the
    last:

    mel.{scale,shift} [64] (batch norm, from decibels), patch.weight [16, d], patch.bias [d],
    patch.norm.{scale,shift} [d], those of `_block_weights` for each block NN, S.norm.{scale,shift} [4 d] and
    S.reduction.{weight,bias} [4 d, 2 d] after stage S, head_norm.{scale,shift} [D], embedding.{scale,shift}
    [D], head.{weight,bias} [6 D, classes].
    """
    def get(key: str) -> Array:
        return np.asarray(state[key], np.float64)

    scale = get("bn0.weight") / np.sqrt(get("bn0.running_var") + EPS)
    head = get("tscam_conv.weight")
    weights: Weights = {
        "mel.scale": scale, "mel.shift": get("bn0.bias") - scale * get("bn0.running_mean"),
        "patch.weight": get("patch_embed.proj.weight").reshape(variant.width, -1).T,
        "patch.bias": get("patch_embed.proj.bias"),
        "patch.norm.scale": get("patch_embed.norm.weight"), "patch.norm.shift": get("patch_embed.norm.bias"),
        "head_norm.scale": get("norm.weight"), "head_norm.shift": get("norm.bias"),
        "embedding.scale": np.ones(variant.embedding), "embedding.shift": np.zeros(variant.embedding),
        "head.weight": head.reshape(len(head), -1).T, "head.bias": get("tscam_conv.bias"),
    }
    for name, source in variant.blocks():
        weights |= _block_weights(get, source, name)
    for stage in variant.stages[:-1]:
        source = f"layers.{stage.number}.downsample"
        weights |= {f"{stage.number}.norm.scale": get(f"{source}.norm.weight"),
                    f"{stage.number}.norm.shift": get(f"{source}.norm.bias"),
                    f"{stage.number}.reduction.weight": get(f"{source}.reduction.weight").T,
                    f"{stage.number}.reduction.bias": np.zeros(2 * stage.width)}
    return weights


def _block_weights(get: Callable[[str], Array], source: str, name: str) -> Weights:
    """Return the weights of one block: those of `joint_block_weights`, position [heads, 64, 64] (the bias of
    its logits), scale [] (their factor)."""
    weights = joint_block_weights(get, source, name)
    table = get(f"{source}.attn.relative_position_bias_table")
    features = len(weights[f"{name}.norm1.scale"]) // table.shape[1]  # of a head
    return weights | {f"{name}.position": table[position_index()].transpose(2, 0, 1),
                      f"{name}.scale": np.asarray(features ** -0.5)}


def _fold_norms(w: Weights) -> Weights:
    """Move the scale and shift of each LayerNorm into the linear layer that follows it. Those of the last
    norm pass the means over time, which have six parts with their own sums of factors."""
    for n in layers(w, "qkv"):
        w = fold_norm(fold_norm(w, f"{n}.norm1", f"{n}.qkv"), f"{n}.norm2", f"{n}.fc1")
    for stage in layers(w, "reduction"):
        w = fold_norm(w, f"{stage}.norm", f"{stage}.reduction")
    scale, shift, sums = w["head_norm.scale"], w["head_norm.shift"], pool_matrix().sum(0)
    wide = w | {"head_norm.scale": np.repeat(scale, len(sums)),
                "head_norm.shift": np.outer(shift, sums).reshape(-1)}
    return fold_norm(wide, "head_norm", "head") | {
        "head_norm.scale": np.ones_like(scale), "head_norm.shift": np.zeros_like(shift),
        "embedding.scale": scale, "embedding.shift": shift}


def _fold_scale(w: Weights) -> Weights:
    """Move the factor of the logits into the query projection."""
    folded: Weights = {}
    for n in layers(w, "qkv"):
        factors = np.repeat([w[f"{n}.scale"], 1.0, 1.0], len(w[f"{n}.qkv.weight"]))
        folded[f"{n}.scale"] = np.asarray(1.0)
        folded |= {f"{n}.qkv.{kind}": factors * w[f"{n}.qkv.{kind}"] for kind in ("weight", "bias")}
    return w | folded


FOLDS: dict[str, Callable[[Weights], Weights]] = {  # in this order
    "LayerNorm scale and shift into the next linear layer": _fold_norms,
    "attention scale into the query projection": _fold_scale,
}
