"""Weights of a variant: read from a file, or made from a seed."""

from __future__ import annotations

import math
import zlib
from pathlib import Path
from typing import Final

import numpy as np
from numpy.typing import NDArray

from satexport.models.ast.keys import FORMATS, HEAD, HEAD_BIAS, Format, expected_shapes, find_format
from satexport.models.ast.sizes import advice, shapes_like
from satexport.models.ast.variants import Variant
from satexport.models.family import State, StateFile
from satexport.models.mismatch import check_shapes
from satexport.models.weightfile import read_floats

EPS: Final = "eps"  # [2]: the epsilon of the blocks' norms and the last norm, and that of the head's norm


def read(file: StateFile, variant: Variant, path: Path) -> State:
    """Return the weights of a file under the original names, in the order of `expected_shapes`, and EPS: both
    formats run the same weights with different epsilons. Raises `CheckpointError`."""
    form, classes = _check_shapes(path, file, variant)
    state = {}
    for key in expected_shapes(variant, classes):
        parts = [read_floats(path, name, file.entries[name]) for name in form.names(key)]
        state[key] = np.concatenate(parts) if len(parts) > 1 else parts[0]
    return state | {EPS: _epsilons(form)}


def _check_shapes(path: Path, file: StateFile, variant: Variant) -> tuple[Format, int]:
    """Return the format of a file and its number of classes. Raises `CheckpointError`."""
    form = find_format(file.shapes) or FORMATS["original"]
    expected = shapes_like(file.shapes, variant, form)
    shapes = {key: shape for key, shape in file.shapes.items() if key not in form.unused}
    check_shapes(path, variant, shapes, expected, lambda: advice(shapes, variant, file))
    return form, expected[form.name(HEAD)][0]


def random(variant: Variant, classes: int, seed: int) -> State:
    """Return weights generated from a seed, as `Family.random` defines."""
    state = {key: _random_weight(key, shape, seed)
             for key, shape in expected_shapes(variant, classes).items()}
    return state | {EPS: _epsilons(FORMATS["original"])}


def _epsilons(form: Format) -> NDArray[np.float32]:
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


def count_parameters(variant: Variant, classes: int) -> int:
    return sum(math.prod(shape) for shape in expected_shapes(variant, classes).values())
