"""Convert a state dict to the graph's weights, [in, out] matrices."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from satexport.graph.writer import Array, Weights
from satexport.models.sat.variants import BN_EPS, PATCH, Variant
from satexport.models.transformer import block_weights


def graph_weights(variant: Variant, state: Mapping[str, NDArray[np.float32]]) -> Weights:
    """Return the published weights as the graph uses them, before any fold; d width, C cached tokens:

    mel.{scale,shift} [64] (batch norm, from decibels),
    patch.weight [256, d] (bands, then frames, of a patch), position [4, columns, d],
    token [1, d], again [C, d] (layer 0's second position code), attention.scale [],
    NN.{norm1,norm2}.{scale,shift} [d], NN.q [d, d], NN.kv [d, 2d] (keys first), NN.proj,
    NN.fc1, NN.fc2, norm, head_norm, head: .weight [in, out] and .bias [out].
    """
    def get(key: str) -> Array:
        part, _, kind = key.rpartition(".qkv.")
        if part and variant.has_cache:  # stored in two parts
            return np.concatenate((get(f"{part}.to_q.{kind}"), get(f"{part}.to_kv.{kind}")))
        return np.asarray(state[key], np.float64)

    d = variant.width
    time, rows = get("time_pos_embed")[0, :, 0], get("freq_pos_embed")[0, :, :, 0]
    scale = get("init_bn.1.weight") / np.sqrt(get("init_bn.1.running_var") + BN_EPS)
    patch = get("patch_embed.proj.weight").reshape(d, PATCH**2).T
    position = rows.T[:, None] + time.T[None, :variant.columns] + get("patch_embed.proj.bias")
    weights: Weights = {
        "mel.scale": scale,
        "mel.shift": get("init_bn.1.bias") - get("init_bn.1.running_mean") * scale,
        "patch.weight": patch,
        "position": position,
        "attention.scale": np.asarray(variant.head_width ** -0.5),
        "norm.scale": get("norm.weight"), "norm.shift": get("norm.bias"),
        "head_norm.scale": get("outputlayer.0.weight"), "head_norm.shift": get("outputlayer.0.bias"),
        "head.weight": get("outputlayer.1.weight").T, "head.bias": get("outputlayer.1.bias"),
    }
    if variant.cls_tokens:
        weights["token"] = get("cls_token")[0] + get("token_pos_embed")
    if variant.has_cache:
        last = time.T[-variant.cache_columns:]
        weights["again"] = (rows.T[:, None] + last[None]).reshape(-1, d)
    for layer in range(variant.depth):
        weights |= block_weights(get, f"blocks.{layer}", f"{layer:02d}")
    return weights
