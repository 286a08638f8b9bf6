"""Checkpoint to the graph's weights, and the exact algebra that takes work out of the step.

`graph_weights` lays a state dict out as the graph multiplies it ([in, out] matrices). Each fold then
maps weights to weights of the *same* function: it moves a scale or a bias into a neighbour and leaves
the identity (ones, zeros) behind, which `satexport.graph` does not write. So every fold is proven by
running the graph of both.

All arithmetic is float64; the graph rounds once, to float32.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

import numpy as np
from numpy.typing import NDArray

from satexport.bundle.contract import Form, keeps_hidden
from satexport.frontends import log_mel as frontend
from satexport.models.sat.variants import BLOCK_EPS, DEPTH, PATCH, ROWS, Variant

Array = NDArray[np.float64]
Weights = dict[str, Array]
DB_PER_LN = 10 / np.log(10)  # 10 log10(x) = DB_PER_LN ln(x)


def graph_weights(variant: Variant, state: Mapping[str, NDArray[np.float32]]) -> Weights:
    """Return the published weights, nothing folded. d width, C cached tokens:

    mel.{scale,shift} [64] (batch norm, from decibels),
    patch.weight [256, d] (bands, then frames, of a patch), position [4, columns, d],
    token [1, d], again [C, d] (layer 0's second position code), attention.scale [],
    NN.{norm1,norm2}.{scale,shift} [d], NN.q [d, d], NN.kv [d, 2d] (keys first), NN.proj,
    NN.fc1, NN.fc2, norm, head_norm, head: .weight [in, out] and .bias [out].
    """
    get: Callable[[str], Array] = lambda key: np.asarray(state[key], np.float64)  # noqa: E731
    d = variant.width
    time, rows = get("time_pos_embed")[0, :, 0], get("freq_pos_embed")[0, :, :, 0]
    scale = get("init_bn.1.weight") / np.sqrt(get("init_bn.1.running_var") + frontend.BN_EPS)
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
    for layer in range(DEPTH):
        weights |= _block(variant, get, layer)
    return weights


def _block(variant: Variant, get: Callable[[str], Array], layer: int) -> Weights:
    d, source, name = variant.width, f"blocks.{layer}", f"{layer:02d}"
    weights: Weights = {}
    for part, key in (("proj", "attn.proj"), ("fc1", "mlp.fc1"), ("fc2", "mlp.fc2")):
        weights[f"{name}.{part}.weight"] = get(f"{source}.{key}.weight").T
        weights[f"{name}.{part}.bias"] = get(f"{source}.{key}.bias")
    for norm in ("norm1", "norm2"):
        weights[f"{name}.{norm}.scale"] = get(f"{source}.{norm}.weight")
        weights[f"{name}.{norm}.shift"] = get(f"{source}.{norm}.bias")
    for kind in ("weight", "bias"):
        if variant.has_cache:
            q, kv = get(f"{source}.attn.to_q.{kind}"), get(f"{source}.attn.to_kv.{kind}")
        else:
            q, kv = np.split(get(f"{source}.attn.qkv.{kind}"), [d])
        weights[f"{name}.q.{kind}"], weights[f"{name}.kv.{kind}"] = q.T, kv.T
    return weights


def _fold_batch_norm(w: Weights) -> Weights:
    """The shift of the mel bands goes through the patch product into the position code. Their scale
    stays, one product per value: folded too it would give each mel row a patch matrix of its own."""
    patch = w["patch.weight"].reshape(PATCH, PATCH, -1)                    # band, frame, d
    shift = np.einsum("rb,bfd->rd", w["mel.shift"].reshape(ROWS, PATCH), patch)
    return w | {"position": w["position"] + shift[:, None], "mel.shift": np.zeros_like(w["mel.shift"])}


def _fold_norms(w: Weights) -> Weights:
    """LayerNorm's scale and shift go into the linear layers that follow it."""
    followers = [("head_norm", ["head"])]
    for layer in range(DEPTH):
        n = f"{layer:02d}"
        followers += [(f"{n}.norm1", [f"{n}.q", f"{n}.kv"]), (f"{n}.norm2", [f"{n}.fc1"])]
    folded: Weights = {}
    for norm, linears in followers:
        scale, shift = w[f"{norm}.scale"], w[f"{norm}.shift"]
        folded |= {f"{norm}.scale": np.ones_like(scale), f"{norm}.shift": np.zeros_like(shift)}
        for linear in linears:
            weight = w[f"{linear}.weight"]
            folded[f"{linear}.weight"] = scale[:, None] * weight
            folded[f"{linear}.bias"] = w[f"{linear}.bias"] + shift @ weight
    return w | folded


def _fold_kv_bias(w: Weights) -> Weights:
    """The key bias adds the same number to every logit of a query: the softmax does not see it.
    The value bias passes through attention unchanged (its weights sum to 1) into `proj`."""
    folded: Weights = {}
    for layer in range(DEPTH):
        n = f"{layer:02d}"
        values = np.split(w[f"{n}.kv.bias"], 2)[1]
        folded[f"{n}.kv.bias"] = np.zeros_like(w[f"{n}.kv.bias"])
        folded[f"{n}.proj.bias"] = w[f"{n}.proj.bias"] + values @ w[f"{n}.proj.weight"]
    return w | folded


def _fold_attention_scale(w: Weights) -> Weights:
    """1 / sqrt(d / heads) goes into the query projection."""
    names = [f"{layer:02d}.q.{kind}" for layer in range(DEPTH) for kind in ("weight", "bias")]
    return w | {"attention.scale": np.asarray(1.0)} | {n: w[n] * w["attention.scale"] for n in names}


FOLDS: dict[str, Callable[[Weights], Weights]] = {  # in this order
    "shift of the batch norm into the position code": _fold_batch_norm,
    "LayerNorm scale and shift into the next linear layer": _fold_norms,
    "key bias dropped, value bias into the output projection": _fold_kv_bias,
    "attention scale into the query projection": _fold_attention_scale,
}


def initial_cache(variant: Variant, form: Form, w: Weights,
                  hidden: NDArray[np.float32]) -> list[NDArray[np.float32]]:
    """Turn the published cache of one stream, hidden [12, C, d], into the graph's, one per layer.

    Keys and values [1, 2 heads, C, d / heads], or hidden tokens [1, C, d]. Layer 0's tokens get the
    second position code before they are projected.
    """
    cache = []
    for layer in range(DEPTH):
        name, x = f"{layer:02d}", hidden[layer].astype(np.float64)
        if keeps_hidden(variant, form, layer):
            cache.append(hidden[layer][None].copy())
            continue
        if layer == 0:
            x = x + w["again"]
        x = (x - x.mean(-1, keepdims=True)) / np.sqrt(x.var(-1, keepdims=True) + BLOCK_EPS)
        x = x * w[f"{name}.norm1.scale"] + w[f"{name}.norm1.shift"]
        kv = x @ w[f"{name}.kv.weight"] + w[f"{name}.kv.bias"]
        heads = kv.reshape(len(kv), 2 * variant.heads, variant.head_width).swapaxes(0, 1)
        cache.append(np.ascontiguousarray(heads[None], np.float32))
    return cache
