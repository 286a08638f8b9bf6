"""Weights of a variant: read from a file, or made from a seed."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from satexport.audio.labels import audioset_labels
from satexport.errors import CheckpointError
from satexport.models.beats.config import find_order, read_config
from satexport.models.beats.keys import (
    BIAS_TABLE,
    HEAD,
    TAP_SCALE,
    advice,
    bias_tables,
    expected_shapes,
    find_names,
)
from satexport.models.beats.variants import Variant, of_size
from satexport.models.family import State, StateFile
from satexport.models.mismatch import advise_variant, check_shapes
from satexport.models.seeded import noise, transformer_weight
from satexport.models.weightfile import read_floats

_SHARP = (".q_proj.weight", ".k_proj.weight")  # projections that would make attention flat at gain 1


def read(file: StateFile, variant: Variant, path: Path) -> State:
    """Return the weights of a file under their published names. The rows of a predictor for AudioSet's 527
    classes, which each file has in an order of its own, get the order of `audioset_labels`; those of another
    number of classes keep theirs. Raises `CheckpointError`."""
    config = read_config(file)
    if isinstance(config, str):
        raise CheckpointError(f"{path}: {config}")
    if config.size != variant.size:
        others = list(of_size(config.size).values())
        raise CheckpointError(f"{path}: is not {variant.model}: its cfg is that of {others[0].model}; "
                              f"{advise_variant(others, variant)}.")
    expected, names = expected_shapes(config.size, config.classes), find_names(file.entries)
    published = {name: key for key, name in names.items()}
    shapes = {published.get(name, name): shape for name, shape in file.shapes.items()}
    check_shapes(path, variant, shapes, expected, lambda: advice(shapes, expected))
    order = find_order(file) if config.classes == len(audioset_labels()) else slice(None)
    if isinstance(order, str):
        raise CheckpointError(f"{path}: {order}")
    state = {key: read_floats(path, names.get(key, key), file.entries[names.get(key, key)])
             for key in expected}
    for key in bias_tables(variant.size):
        if not np.array_equal(state[key], state[BIAS_TABLE]):
            raise CheckpointError(f"{path}: {key} differs from {BIAS_TABLE}; expected copies of one table, "
                                  "which all layers share: the file was changed. Pass the original file.")
    return state | {key: np.ascontiguousarray(state[key][order]) for key in (HEAD, "predictor.bias")}


def random(variant: Variant, classes: int, seed: int) -> State:
    """Return weights generated from a seed, as `Family.random` defines."""
    state = {key: _random_weight(key, shape, seed).astype(np.float32)
             for key, shape in expected_shapes(variant.size, classes).items()}
    return state | dict.fromkeys(bias_tables(variant.size), state[BIAS_TABLE])


def _random_weight(key: str, shape: tuple[int, ...], seed: int) -> NDArray[np.float64]:
    """Generate one weight from its name and the seed."""
    if key == TAP_SCALE:
        return 1.2 + 0.1 * noise(key, shape, seed)
    if key.endswith(".grep_a"):
        return 1 + 0.3 * noise(key, shape, seed)
    if key.endswith(".relative_attention_bias.weight"):
        return 0.5 * noise(key, shape, seed)
    return (2 if key.endswith(_SHARP) else 1) * transformer_weight(key, shape, seed, "predictor")


def count_classes(state: State) -> int:
    return len(state[HEAD])


def count_parameters(variant: Variant, classes: int) -> int:
    copies = bias_tables(variant.size)[1:]
    return sum(math.prod(shape) for key, shape in expected_shapes(variant.size, classes).items()
               if key not in copies)
