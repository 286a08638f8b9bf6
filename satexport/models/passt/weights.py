"""Convert a state dict to the graph's weights, [in, out] matrices, and fold them."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import numpy as np
from numpy.typing import NDArray

from satexport.graph.writer import Array, Weights
from satexport.models.passt.keys import FREQUENCY, TIME
from satexport.models.passt.variants import EXTRA_TOKENS, MEAN, SCALE, Variant
from satexport.models.transformer import block_weights
from satexport.models.transformer_folds import TRANSFORMER_FOLDS


def graph_weights(variant: Variant, state: Mapping[str, NDArray[np.float32]]) -> Weights:
    """Return the published weights as the graph uses them, before any fold; d width, T tokens:

    mel.scale [] and mel.shift [] (the normalisation, from log-mel), patch.weight [d, 1, 16, 16], patch.bias
    [d], position [T, d] (with class and distillation token in the first rows), attention.scale [], those of
    `block_weights` for each block NN, norm.{scale,shift} and head_norm.{scale,shift} [d], head.{weight,bias}.
    """
    def get(key: str) -> Array:
        return np.asarray(state[key], np.float64)

    extra = get("new_pos_embed")[0] + np.concatenate((get("cls_token")[0], get("dist_token")[0]))
    grid = (get(FREQUENCY) + get(TIME)[..., :variant.columns])[0]              # [d, rows, columns]
    weights: Weights = {
        "mel.scale": np.asarray(1 / SCALE), "mel.shift": np.asarray(-MEAN / SCALE),
        "patch.weight": get("patch_embed.proj.weight"), "patch.bias": get("patch_embed.proj.bias"),
        "position": np.concatenate((extra, grid.reshape(variant.width, -1).T)),
        "attention.scale": np.asarray((variant.width // variant.heads) ** -0.5),
        "norm.scale": get("norm.weight"), "norm.shift": get("norm.bias"),
        "head_norm.scale": get("head.0.weight"), "head_norm.shift": get("head.0.bias"),
        "head.weight": get("head.1.weight").T, "head.bias": get("head.1.bias"),
    }
    for layer in range(variant.depth):
        weights |= block_weights(get, f"blocks.{layer}", f"{layer:02d}")
    return weights


def _fold_normalisation(w: Weights) -> Weights:
    """Move scale and shift of the log-mels into the patch convolution, and its bias into the position
    table."""
    weight = w["patch.weight"]
    bias = w["patch.bias"] + w["mel.shift"] * weight.sum((1, 2, 3))
    position = w["position"].copy()
    position[EXTRA_TOKENS:] += bias
    return w | {"mel.scale": np.asarray(1.0), "mel.shift": np.asarray(0.0), "position": position,
                "patch.weight": w["mel.scale"] * weight, "patch.bias": np.zeros_like(bias)}


FOLDS: dict[str, Callable[[Weights], Weights]] = {  # in this order
    "normalisation and bias of the patches into the position table": _fold_normalisation,
    **TRANSFORMER_FOLDS}
