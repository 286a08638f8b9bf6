"""Weights generated from a seed, for several families."""

from __future__ import annotations

import math
import re
import zlib
from typing import Final

import numpy as np
from numpy.typing import NDArray

_SHARP: Final = re.compile(r"attn\.(to_|qkv)")  # projections that would make attention flat at gain 1


def noise(key: str, shape: tuple[int, ...], seed: int) -> NDArray[np.float64]:
    """Return noise for the weight of a name: uniform with mean 0 and variance 1, so that its bits are the
    same on every platform."""
    rng = np.random.Generator(np.random.PCG64([seed, zlib.crc32(key.encode())]))
    return math.sqrt(3) * rng.uniform(-1, 1, shape)


def transformer_weight(key: str, shape: tuple[int, ...], seed: int, head: str) -> NDArray[np.float64]:
    """Generate one weight of a transformer from its name and the seed, scaled so that activations stay
    moderate. `head` is the name of the layer that scores the classes, without ".weight"."""
    random = noise(key, shape, seed)
    if key == f"{head}.bias":
        return -2 + 0.5 * random          # a tagger's scores: most low, few high
    if key.endswith("bias"):
        return 0.05 * random
    if key.endswith(("pos_embed", "_token")):
        return 0.3 * random
    if len(shape) == 1:                   # scales of norms
        return 1 + 0.1 * random
    gain = 2.0 if _SHARP.search(key) else 0.5 if key == f"{head}.weight" else 1.0
    return gain * random / math.sqrt(math.prod(shape[1:]))  # [out, in], [out, in, rows, columns]
