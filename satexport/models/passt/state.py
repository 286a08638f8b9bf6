"""Weights of a variant: read from a file, or made from a seed."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np

from satexport.models.family import State, StateFile
from satexport.models.mismatch import check_shapes
from satexport.models.passt.keys import (
    HEAD,
    UNUSED,
    expected_shapes,
    find_prefix,
    without_prefix,
)
from satexport.models.passt.sizes import advice, shapes_like
from satexport.models.passt.variants import Variant
from satexport.models.seeded import transformer_weight
from satexport.models.weightfile import read_floats


def read(file: StateFile, variant: Variant, path: Path) -> State:
    """Return the weights of a file under their names without a prefix, in the order of `expected_shapes`. If
    a training checkpoint has the weights twice, returns the averaged ones. Raises `CheckpointError`."""
    prefix = find_prefix(file.shapes) or ""
    shapes = {key: shape for key, shape in without_prefix(file.shapes, prefix).items() if key not in UNUSED}
    expected = shapes_like(shapes, variant)
    check_shapes(path, variant, shapes, expected, lambda: advice(file, variant))
    return {key: read_floats(path, prefix + key, file.entries[prefix + key]) for key in expected}


def random(variant: Variant, classes: int, seed: int) -> State:
    """Return weights generated from a seed, as `Family.random` defines."""
    return {key: transformer_weight(key, shape, seed, HEAD.removesuffix(".weight")).astype(np.float32)
            for key, shape in expected_shapes(variant, classes).items()}


def count_classes(state: State) -> int:
    return len(state[HEAD])


def count_parameters(variant: Variant, classes: int) -> int:
    return sum(math.prod(shape) for shape in expected_shapes(variant, classes).values())
