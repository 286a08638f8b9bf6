"""What a variant's graph takes and gives: input, scores, caches; and the cache after silence."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from satexport.bundle.contract import CACHE_DTYPES, Form, TensorSpec
from satexport.frontends import log_mel as frontend
from satexport.frontends.log_mel import MEL_BANDS, SAMPLE_RATE
from satexport.graph.writer import Weights
from satexport.models.sat.variants import BLOCK_EPS, DEPTH, Variant


def cache_specs(variant: Variant, form: Form, direction: str) -> tuple[TensorSpec, ...]:
    """The caches, one per layer; direction "in" or "out"."""
    if not variant.has_cache:
        return ()
    kv = (form.streams, 2 * variant.heads, variant.cache_tokens, variant.head_width)
    hidden = (form.streams, variant.cache_tokens, variant.width)
    return tuple(
        TensorSpec(f"cache_{direction}_{layer:02d}", hidden if keeps_hidden(variant, form, layer) else kv,
                   CACHE_DTYPES[form.cache_dtype])
        for layer in range(DEPTH))


def keeps_hidden(variant: Variant, form: Form, layer: int) -> bool:
    """Does the cache of a layer keep hidden tokens, and not keys and values?"""
    return variant.has_cache and (
        form.cache == "hidden" or (layer == 0 and variant.keeps_hidden_layer_0))


def contract_fields(variant: Variant, classes: int, form: Form) -> dict[str, Any]:
    """The part of a contract that follows from the variant, the classes and the form."""
    shape = (variant.chunk_samples,) if form.input == "audio" else (MEL_BANDS, variant.used_frames)
    return {
        "variant": variant.name, "delay": variant.delay, "sample_rate": SAMPLE_RATE,
        "chunk_samples": variant.chunk_samples, "pooling": variant.pooling, "classes": classes,
        "memory_chunks": variant.memory_chunks, "form": form,
        "input": TensorSpec(form.input, (form.streams, *shape)),
        "scores": TensorSpec("scores", (form.streams, classes)),
        **cache_fields(variant, form),
        "mel": dict(frontend.PARAMETERS, chunk_frames=variant.chunk_frames),
    }


def cache_fields(variant: Variant, form: Form) -> dict[str, Any]:
    """The part of a contract that is about the cache."""
    return {"cache_in": cache_specs(variant, form, "in"), "cache_out": cache_specs(variant, form, "out"),
            "cache_form": _cache_form(variant, form)}


def _cache_form(variant: Variant, form: Form) -> str:
    if not variant.has_cache:
        return "none"
    as_integers = ", as integers whose scales the graph knows" if form.cache_dtype == "int8" else ""
    hidden = f"hidden tokens [stream, token, feature]{as_integers}"
    if form.cache == "hidden":
        return f"{hidden}, each block's input"
    text = (f"keys and values: [stream, keys of each head then values of each head, token, feature]"
            f"{as_integers}")
    return f"{text}; layer 0: {hidden}" if variant.keeps_hidden_layer_0 else text


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
