"""Weights of a variant: read from a file, or made from a seed."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Final

import numpy as np
from numpy.typing import NDArray

from satexport.models.ast.keys import FORMATS, HEAD, Format, expected_shapes, find_format
from satexport.models.ast.sizes import advice, shapes_like
from satexport.models.ast.variants import Variant
from satexport.models.family import State, StateFile
from satexport.models.mismatch import check_shapes
from satexport.models.seeded import transformer_weight
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
    state = {key: transformer_weight(key, shape, seed, HEAD.removesuffix(".weight")).astype(np.float32)
             for key, shape in expected_shapes(variant, classes).items()}
    return state | {EPS: _epsilons(FORMATS["original"])}


def _epsilons(form: Format) -> NDArray[np.float32]:
    """Return the entry EPS of a state that was read from a file of this format."""
    return np.array([form.block_eps, form.head_eps], np.float32)


def count_classes(state: State) -> int:
    return len(state[HEAD])


def count_parameters(variant: Variant, classes: int) -> int:
    return sum(math.prod(shape) for shape in expected_shapes(variant, classes).values())
