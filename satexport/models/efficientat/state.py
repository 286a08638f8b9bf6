"""The weights of a MobileNet, read strictly from a file."""

from __future__ import annotations

import math
from pathlib import Path

from satexport.errors import CheckpointError
from satexport.models.efficientat.keys import (
    advice,
    counters,
    expected_shapes,
    shapes_like,
)
from satexport.models.efficientat.variants import Variant
from satexport.models.family import State, StateFile
from satexport.models.mismatch import check_shapes
from satexport.models.weightfile import read_floats


def read(file: StateFile, variant: Variant, path: Path) -> State:
    """Return the weights of a file under their published names, in the order of `expected_shapes`, without
    the counters `num_batches_tracked` (a strict `load_state_dict` does not need them). Raises
    `CheckpointError`."""
    expected = shapes_like(file.shapes, variant)
    unused = counters(expected)
    shapes = {key: shape for key, shape in file.shapes.items() if key not in unused}
    check_shapes(path, variant, shapes, expected, lambda: advice(shapes, variant, file))
    state = {key: read_floats(path, key, file.entries[key]) for key in expected}
    for key, value in state.items():
        if key.endswith("running_var") and value.min() < 0:
            raise CheckpointError(f"{path}: {key} has negative values, expected variances: "
                                  "the file is damaged; copy or download it again.")
    return state


def count_classes(state: State) -> int:
    """Return the number of classes that the weights score."""
    return next(len(state[key]) for key in ("classifier.5.weight", "classifier.0.weight")
                if key in state)


def count_parameters(variant: Variant, classes: int) -> int:
    """Return the number of trained weights."""
    return sum(math.prod(shape) for key, shape in expected_shapes(variant, classes).items()
               if not key.endswith(("running_mean", "running_var")))

