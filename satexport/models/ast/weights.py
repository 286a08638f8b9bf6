"""Convert a state to the graph's weights, [in, out] matrices."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from satexport.graph.writer import Array, Weights
from satexport.models.ast.state import EPS
from satexport.models.ast.variants import DEVIATION, MEAN, Variant
from satexport.models.patches import EXTRA_TOKENS
from satexport.models.transformer import block_weights


def graph_weights(variant: Variant, state: Mapping[str, NDArray[np.float32]]) -> Weights:
    """Return the published weights as `patch_graph` uses them."""
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
