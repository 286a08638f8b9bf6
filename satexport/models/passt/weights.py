"""Convert a state dict to the graph's weights, [in, out] matrices."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from satexport.graph.writer import Array, Weights
from satexport.models.passt.keys import FREQUENCY, TIME
from satexport.models.passt.variants import BLOCK_EPS, HEAD_EPS, MEAN, SCALE, Variant
from satexport.models.transformer import block_weights


def graph_weights(variant: Variant, state: Mapping[str, NDArray[np.float32]]) -> Weights:
    """Return the published weights as `patch_graph` uses them."""
    def get(key: str) -> Array:
        return np.asarray(state[key], np.float64)

    extra = get("new_pos_embed")[0] + np.concatenate((get("cls_token")[0], get("dist_token")[0]))
    grid = (get(FREQUENCY) + get(TIME)[..., :variant.columns])[0]              # [d, rows, columns]
    weights: Weights = {
        "mel.scale": np.asarray(1 / SCALE), "mel.shift": np.asarray(-MEAN / SCALE),
        "patch.weight": get("patch_embed.proj.weight"), "patch.bias": get("patch_embed.proj.bias"),
        "position": np.concatenate((extra, grid.reshape(variant.width, -1).T)),
        "block.eps": np.asarray(BLOCK_EPS), "head.eps": np.asarray(HEAD_EPS),
        "attention.scale": np.asarray((variant.width // variant.heads) ** -0.5),
        "norm.scale": get("norm.weight"), "norm.shift": get("norm.bias"),
        "head_norm.scale": get("head.0.weight"), "head_norm.shift": get("head.0.bias"),
        "head.weight": get("head.1.weight").T, "head.bias": get("head.1.bias"),
    }
    for layer in range(variant.depth):
        weights |= block_weights(get, f"blocks.{layer}", f"{layer:02d}")
    return weights
