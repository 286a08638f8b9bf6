"""Convert a state to the graph's weights, [in, out] matrices, and fold them."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Final

import numpy as np
from numpy.typing import NDArray

from satexport.graph.writer import Array, Weights
from satexport.models.beats.keys import BIAS_TABLE, MARK, TAP_SCALE, TAPS_WEIGHT
from satexport.models.beats.variants import DEVIATION, MEAN, PATCH, Variant, find_buckets
from satexport.models.transformer_folds import fold_attention_scale, fold_kv_bias, fold_norm, layers

_NORMS: Final = {"norm1": "self_attn_layer_norm", "norm2": "final_layer_norm"}


def graph_weights(variant: Variant, state: Mapping[str, NDArray[np.float32]]) -> Weights:
    """Return the published weights as the graph uses them, before any fold; d width, e numbers of a patch,
    T tokens, h heads:

    mel.scale [] and mel.shift [] (the normalisation, from log-mel), patch.weight [256, e] (by band, then
    frame) and patch.bias [e], input.{scale,shift} [e] (the first norm), input.weight [e, d] and .bias (if e
    is not d), place.weight [d, d / 16, 128] and .bias (the convolution that codes positions, with the norms
    of its taps applied), norm.{scale,shift} [d], bias.distances [h, 2T] (from `_distances`), residual [],
    attention.scale [], head.{weight,bias}, head.is_last [] (1: the head scores the mean of the tokens, 0:
    each token); and of each block NN: q, kv (keys first), proj, fc1, fc2: .weight [in, out] and .bias,
    grep.weight [d / h, 8] and .bias, grep_a [h], {norm1,norm2}.{scale,shift} [d].
    """
    def get(key: str) -> Array:
        return np.asarray(state[key], np.float64)

    def linear(name: str, *keys: str) -> Weights:
        return {f"{name}.weight": np.concatenate([get(f"{key}.weight") for key in keys]).T,
                f"{name}.bias": np.concatenate([get(f"{key}.bias") for key in keys])}

    def norm(name: str, key: str) -> Weights:
        return {f"{name}.scale": get(f"{key}.weight"), f"{name}.shift": get(f"{key}.bias")}

    size, taps = variant.size, get(TAPS_WEIGHT)
    weights: Weights = {
        "mel.scale": np.asarray(1 / (2 * DEVIATION)), "mel.shift": np.asarray(-MEAN / (2 * DEVIATION)),
        "patch.weight": get(MARK)[:, 0].transpose(2, 1, 0).reshape(PATCH**2, size.embed),
        "patch.bias": np.zeros(size.embed), **norm("input", "layer_norm"),
        "place.weight": get(TAP_SCALE) * taps / np.sqrt((taps**2).sum((0, 1), keepdims=True)),
        "place.bias": get("encoder.pos_conv.0.bias"), **norm("norm", "encoder.layer_norm"),
        "bias.distances": _distances(variant, get(BIAS_TABLE)), "residual": np.asarray(variant.alpha),
        "attention.scale": np.asarray((size.width // size.heads) ** -0.5),
        **linear("head", "predictor"), "head.is_last": np.asarray(0.0),
    }
    if size.embed != size.width:
        weights |= linear("input", "post_extract_proj")
    for number in range(size.depth):
        n, layer = f"{number:02d}", f"encoder.layers.{number}"
        attention = f"{layer}.self_attn"
        weights |= linear(f"{n}.q", f"{attention}.q_proj")
        weights |= linear(f"{n}.kv", f"{attention}.k_proj", f"{attention}.v_proj")
        weights |= linear(f"{n}.proj", f"{attention}.out_proj")
        weights |= linear(f"{n}.grep", f"{attention}.grep_linear")
        weights |= linear(f"{n}.fc1", f"{layer}.fc1") | linear(f"{n}.fc2", f"{layer}.fc2")
        weights[f"{n}.grep_a"] = get(f"{attention}.grep_a").reshape(-1)
        for name, key in _NORMS.items():
            weights |= norm(f"{n}.{name}", f"{layer}.{key}")
    return weights


def _distances(variant: Variant, table: Array) -> Array:
    """Return the bias by distance from query to key, [h, 2T]: the distances 0 ... T - 1, one number that is
    not read, then -(T - 1) ... -1."""
    by_distance = table[find_buckets(variant.size, variant.tokens)].T     # [h, 2T - 1] from -(T - 1)
    ordered = np.roll(by_distance, -(variant.tokens - 1), 1)
    return np.insert(ordered, variant.tokens, 0.0, axis=1)


def _fold_normalisation(w: Weights) -> Weights:
    """Move scale and shift of the log-mels into the product that makes patches."""
    weight = w["patch.weight"]
    return w | {"mel.scale": np.asarray(1.0), "mel.shift": np.asarray(0.0),
                "patch.weight": w["mel.scale"] * weight,
                "patch.bias": w["patch.bias"] + w["mel.shift"] * weight.sum(0)}


def _fold_input_norm(w: Weights) -> Weights:
    """Move scale and shift of the first norm into the layer after it, if there is one."""
    return fold_norm(w, "input", "input") if "input.weight" in w else w


def _fold_gate(w: Weights) -> Weights:
    """Compute both numbers of each head's gate from the token itself, in one product: queries, the product
    with `grep` and the sum of each four of its numbers are linear. gate.weight is [d, 2h]: the first number
    of every head, then the second."""
    folded = dict(w)
    for n in layers(w):
        summed, bias = (folded.pop(f"{n}.grep.{kind}") for kind in ("weight", "bias"))
        heads, head = len(w[f"{n}.grep_a"]), len(summed)
        pairs = summed.reshape(head, 2, -1).sum(2)                                  # [d / h, 2]
        queries = w[f"{n}.q.weight"].reshape(-1, heads, head)
        folded[f"{n}.gate.weight"] = np.einsum("dhf,fp->dph", queries, pairs).reshape(-1, 2 * heads)
        by_head = w[f"{n}.q.bias"].reshape(heads, head) @ pairs + bias.reshape(2, -1).sum(1)  # [h, 2]
        folded[f"{n}.gate.bias"] = by_head.T.reshape(-1)
    return folded


def _fold_residual(w: Weights) -> Weights:
    """Let the norm before each residual give tokens that are larger by its factor, and make the weights of
    the layers that read them smaller. After the last norm there is no residual."""
    factor, folded = w["residual"], dict(w)
    norms = ["norm"]
    for n in layers(w):
        for linear in ("q", "kv", "gate", "fc1"):
            folded[f"{n}.{linear}.weight"] = w[f"{n}.{linear}.weight"] / factor
        norms += [f"{n}.norm1", f"{n}.norm2"]
    for norm in norms[:-1]:
        folded |= {f"{norm}.{kind}": factor * w[f"{norm}.{kind}"] for kind in ("scale", "shift")}
    return folded | {"residual": np.asarray(1.0)}


def _fold_head(w: Weights) -> Weights:
    """Score the mean of the tokens instead of each token, because the head is linear."""
    return w | {"head.is_last": np.asarray(1.0)}


FOLDS: dict[str, Callable[[Weights], Weights]] = {  # in this order
    "normalisation into the patches": _fold_normalisation,
    "scale and shift of the first norm into the next linear layer": _fold_input_norm,
    "gates from tokens in one product": _fold_gate,
    "factor of the residuals into the norms": _fold_residual,
    "key bias dropped, value bias into the output projection": fold_kv_bias,
    "attention scale into the query projection": fold_attention_scale,
    "mean of the tokens before the head": _fold_head,
}
