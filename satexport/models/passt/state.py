"""Weights of a variant: read from a file, or made from a seed."""

from __future__ import annotations

import math
import zlib
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from satexport.models.family import State, StateFile
from satexport.models.mismatch import check_shapes
from satexport.models.passt.keys import (
    HEAD,
    HEAD_BIAS,
    UNUSED,
    expected_shapes,
    find_prefix,
    without_prefix,
)
from satexport.models.passt.sizes import advice, shapes_like
from satexport.models.passt.variants import Variant
from satexport.models.weightfile import read_floats


def read(file: StateFile, variant: Variant, path: Path) -> State:
    """Return the weights of a file under their names without a prefix, in the order of `expected_shapes`. If
    a training checkpoint has the weights twice, returns the averaged ones. Raises `CheckpointError`."""
    prefix = find_prefix(file.shapes) or ""
    shapes = {key: shape for key, shape in without_prefix(file.shapes, prefix).items() if key not in UNUSED}
    expected = shapes_like(shapes, variant)
    check_shapes(path, variant, shapes, expected, lambda: advice(shapes, variant, file))
    return {key: read_floats(path, prefix + key, file.entries[prefix + key]) for key in expected}


def random(variant: Variant, classes: int, seed: int) -> State:
    """Return weights generated from a seed, as `Family.random` defines."""
    return {key: _random_weight(key, shape, seed)
            for key, shape in expected_shapes(variant, classes).items()}


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
        value = 0.2 * noise
    elif len(shape) == 1:                 # scales of norms
        value = 1 + 0.1 * noise
    else:                                 # [out, in], [out, 1, 16, 16]; q, k and v twice as large, or
        gain = 2.0 if "attn.qkv" in key else 0.5 if key == HEAD else 1.0  # attention would be flat
        value = gain * noise / math.sqrt(math.prod(shape[1:]))
    return value.astype(np.float32)


def count_classes(state: State) -> int:
    return len(state[HEAD])


def count_parameters(variant: Variant, classes: int) -> int:
    return sum(math.prod(shape) for shape in expected_shapes(variant, classes).values())
