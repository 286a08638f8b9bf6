"""Convert a state to the graph's weights, [in, out] matrices, and fold them."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import numpy as np
from numpy.typing import NDArray

from satexport.graph.writer import Array, Weights
from satexport.models.htsat.layout import pool_matrix, position_index
from satexport.models.htsat.variants import EPS, WINDOW, Variant
from satexport.models.transformer import block_weights
from satexport.models.transformer_folds import TRANSFORMER_FOLDS


def graph_weights(variant: Variant, state: Mapping[str, NDArray[np.float32]]) -> Weights:
    """Return the published weights as the graph uses them, before any fold; d width of a stage, D of the last:

    mel.{scale,shift} [64] (batch norm, from decibels), patch.weight [16, d], patch.bias [d],
    patch.norm.{scale,shift}, attention.scale [] (24 features per head in all stages, so one), those of
    `block_weights` and position [heads, 64, 64] for each block NN, S.norm.{scale,shift} [4 d] and
    S.reduction.{weight,bias} [4 d, 2 d] after stage S, head_norm.{scale,shift} [D], head.{weight,bias} of
    [6 D, classes].
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
        "head.weight": head.transpose(2, 3, 1, 0).reshape(-1, len(head)), "head.bias": get("tscam_conv.bias"),
    }
    for name, source in variant.blocks():
        table = get(f"{source}.attn.relative_position_bias_table")
        weights |= block_weights(get, source, name)
        weights[f"{name}.position"] = table[position_index()].transpose(2, 0, 1)
    for stage in variant.stages[:-1]:
        source = f"layers.{stage.number}.downsample"
        weights |= {f"{stage.number}.norm.scale": get(f"{source}.norm.weight"),
                    f"{stage.number}.norm.shift": get(f"{source}.norm.bias"),
                    f"{stage.number}.reduction.weight": get(f"{source}.reduction.weight").T,
                    f"{stage.number}.reduction.bias": np.zeros(2 * stage.width)}
    return weights
