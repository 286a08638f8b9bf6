"""Weights of a variant: read from a file, or made from a seed."""

from __future__ import annotations

import math
import zlib
from typing import Final

import numpy as np
from numpy.typing import NDArray

from satexport.models.ast.keys import HEAD, HEAD_BIAS, ORIGINAL, Format, expected_shapes
from satexport.models.ast.variants import Variant
from satexport.models.family import State

EPS: Final = "eps"  # [2]: the epsilon of the blocks' norms and the last norm, and that of the head's norm


def random(variant: Variant, classes: int, seed: int) -> State:
    """Return weights generated from a seed, as `Family.random` defines."""
    return {key: _random_weight(key, shape, seed)
            for key, shape in expected_shapes(variant, classes).items()} | {EPS: epsilons(ORIGINAL)}


def epsilons(form: Format) -> NDArray[np.float32]:
    """Return the entry EPS of a state that was read from a file of this format."""
    return np.array([form.block_eps, form.head_eps], np.float32)


def _random_weight(key: str, shape: tuple[int, ...], seed: int) -> NDArray[np.float32]:
    """Generate one weight from its name and the seed, scaled so that activations stay moderate.

    The noise is uniform with unit variance, so that its bits are the same on every platform.
    """
    rng = np.random.Generator(np.random.PCG64([seed, zlib.crc32(key.encode())]))
    noise: NDArray[np.float64] = math.sqrt(3) * rng.uniform(-1, 1, shape)
    if key == HEAD_BIAS:
        value = -2 + 0.5 * noise          # a tagger's scores: most low, few high
    elif key.endswith(".bias"):
        value = 0.05 * noise
    elif key.endswith(("pos_embed", "_token")):
        value = 0.3 * noise
    elif len(shape) == 1:                 # scales of norms
        value = 1 + 0.1 * noise
    else:                                 # [out, in], [out, 1, 16, 16]; q, k and v twice as large, or
        gain = 2.0 if "attn.qkv" in key else 0.5 if key == HEAD else 1.0  # attention would be flat
        value = gain * noise / math.sqrt(math.prod(shape[1:]))
    return value.astype(np.float32)


def count_classes(state: State) -> int:
    return len(state[HEAD])
