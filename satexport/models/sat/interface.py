"""The inputs and outputs of a variant's graph, and its cache after silence."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from satexport.bundle.contract import CACHE_DTYPES, GraphOptions, TensorSpec, embedding_spec
from satexport.models.family import Interface
from satexport.models.sat.variants import BLOCK_EPS, LOG_MEL, Variant

if TYPE_CHECKING:
    from satexport.graph.writer import Weights


def cache_specs(variant: Variant, options: GraphOptions, direction: str) -> tuple[TensorSpec, ...]:
    """Return the specs of the caches, one per layer; `direction` is "in" or "out"."""
    if not variant.has_cache:
        return ()
    kv = (options.streams, 2 * variant.heads, variant.cache_tokens, variant.head_width)
    hidden = (options.streams, variant.cache_tokens, variant.width)
    return tuple(
        TensorSpec(f"cache_{direction}_{layer:02d}", hidden if keeps_hidden(variant, options, layer) else kv,
                   CACHE_DTYPES[options.cache_dtype])
        for layer in range(variant.depth))


def keeps_hidden(variant: Variant, options: GraphOptions, layer: int) -> bool:
    """Return whether the cache of a layer keeps hidden tokens instead of keys and values."""
    return variant.has_cache and (
        options.cache == "hidden" or (layer == 0 and variant.keeps_hidden_layer_0))


def interface(variant: Variant, classes: int, options: GraphOptions) -> Interface:
    """Return the inputs and outputs of a variant's graph."""
    shape = (variant.window_samples,) if options.input == "audio" else (LOG_MEL.bands, variant.used_frames)
    return Interface(
        input=TensorSpec(options.input, (options.streams, *shape)),
        scores=TensorSpec("scores", (options.streams, classes)),
        embedding=embedding_spec(options, variant.width),
        cache_in=cache_specs(variant, options, "in"), cache_out=cache_specs(variant, options, "out"),
        tokens={"new": variant.new_tokens, "cached": variant.cache_tokens})


def initial_cache(variant: Variant, options: GraphOptions, w: Weights,
                  hidden: NDArray[np.float32]) -> list[NDArray[np.float32]]:
    """Convert the published cache of one stream, hidden tokens [depth, C, d], to the graph's caches.

    Returns one array per layer: keys and values [1, 2 heads, C, d / heads], or hidden tokens [1, C, d].
    Layer 0 adds its second position code to the tokens before it projects them.
    """
    cache = []
    for layer in range(variant.depth):
        name, x = f"{layer:02d}", hidden[layer].astype(np.float64)
        if keeps_hidden(variant, options, layer):
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
