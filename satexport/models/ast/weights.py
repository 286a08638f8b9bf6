"""Convert a state to the graph's weights, [in, out] matrices, and fold them."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import numpy as np
from numpy.typing import NDArray

from satexport.graph.writer import Array, Weights
from satexport.models.ast.state import EPS
from satexport.models.ast.variants import DEVIATION, EXTRA_TOKENS, MEAN, Variant
from satexport.models.transformer import block_weights
from satexport.models.transformer_folds import TRANSFORMER_FOLDS


def graph_weights(variant: Variant, state: Mapping[str, NDArray[np.float32]]) -> Weights:
    """Return the published weights as the graph uses them, before any fold; d width, T tokens:

    mel.scale [] and mel.shift [] (the normalisation, from log-mel), patch.weight [d, 1, 16, 16], patch.bias
    [d], position [T, d] (with class and distillation token in the first rows), attention.scale [],
    block.eps [], head.eps [], those of `block_weights` for each block NN, norm.{scale,shift} and
    head_norm.{scale,shift} [d], head.{weight,bias}.
    """
    def get(key: str) -> Array:
        return np.asarray(state[key], np.float64)

    position = get("v.pos_embed")[0]
    position[:EXTRA_TOKENS] += np.concatenate((get("v.cls_token")[0], get("v.dist_token")[0]))
    block_eps, head_eps = get(EPS)
    weights: Weights = {
        "mel.scale": np.asarray(1 / (2 * DEVIATION)), "mel.shift": np.asarray(-MEAN / (2 * DEVIATION)),
        "patch.weight": get("v.patch_embed.proj.weight"), "patch.bias": get("v.patch_embed.proj.bias"),
        "position": position,
        "attention.scale": np.asarray((variant.width // variant.heads) ** -0.5),
        "block.eps": np.asarray(block_eps), "head.eps": np.asarray(head_eps),
        "norm.scale": get("v.norm.weight"), "norm.shift": get("v.norm.bias"),
        "head_norm.scale": get("mlp_head.0.weight"), "head_norm.shift": get("mlp_head.0.bias"),
        "head.weight": get("mlp_head.1.weight").T, "head.bias": get("mlp_head.1.bias"),
    }
    for layer in range(variant.depth):
        weights |= block_weights(get, f"v.blocks.{layer}", f"{layer:02d}")
    return weights


def _fold_normalisation(w: Weights) -> Weights:
    """Move scale and shift of the log-mels into the patch convolution, and its bias into the position table.
    Padded frames are zeros before the normalisation, so that they stay zeros."""
    weight = w["patch.weight"]
    bias = w["patch.bias"] + w["mel.shift"] * weight.sum((1, 2, 3))
    position = w["position"].copy()
    position[EXTRA_TOKENS:] += bias
    return w | {"mel.scale": np.asarray(1.0), "mel.shift": np.asarray(0.0), "position": position,
                "patch.weight": w["mel.scale"] * weight, "patch.bias": np.zeros_like(bias)}


FOLDS: dict[str, Callable[[Weights], Weights]] = {  # in this order
    "normalisation and bias of the patches into the position table": _fold_normalisation,
    **TRANSFORMER_FOLDS}
