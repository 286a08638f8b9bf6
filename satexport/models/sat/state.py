"""The weights of a SAT, ViT or CED, read strictly from a file or generated from a seed."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from satexport.errors import CheckpointError
from satexport.models.family import Entry, State, StateFile
from satexport.models.mismatch import check_shapes
from satexport.models.sat.keys import (
    COUNTER,
    FRONT_END,
    HEAD,
    MARK,
    advice,
    expected_shapes,
    find_names,
    shapes_like,
)
from satexport.models.sat.variants import Variant
from satexport.models.seeded import noise, transformer_weight
from satexport.models.weightfile import read_floats

FRONT_END_TOLERANCE: Final = 1e-3  # float16 rounds a filter by up to 5e-4


def read(file: StateFile, variant: Variant, path: Path) -> State:
    """Return the weights of a file under the published names, in the order of `expected_shapes`, without the
    counter `num_batches_tracked` (a strict `load_state_dict` does not need it).

    The width of `time_pos_embed` tells the delay of a SAT, except for SAT-S, which has 24 columns at both
    delays: such a file loads at either, and the user must know which is right. The time code of a ViT or CED
    is cut or resized to the variant's columns. A CED from the Hub has other names and no front end; it gets
    the published front end. Raises `CheckpointError`.
    """
    classes, name = _check_shapes(path, file, variant), find_names(file.shapes, variant)
    state = {}
    for key, shape in expected_shapes(variant, classes).items():
        in_file = key not in FRONT_END or name(key) in file.entries
        state[key] = (_read_weight(path, key, name(key), file.entries[name(key)], shape) if in_file
                      else FRONT_END[key]().astype(np.float32))
    return state


def _check_shapes(path: Path, file: StateFile, variant: Variant) -> int:
    """Return the number of classes. Raises `CheckpointError`."""
    counter = find_names(file.shapes, variant)(COUNTER)
    shapes = {key: shape for key, shape in file.shapes.items() if key != counter}
    expected = shapes_like(shapes, variant)
    check_shapes(path, variant, shapes, expected, lambda: advice(shapes, variant, file))
    return expected[HEAD][0]


def _read_weight(path: Path, key: str, name: str, entry: Entry,
                 shape: tuple[int, ...]) -> NDArray[np.float32]:
    """Read one entry as contiguous float32 of this shape; `key` is its published name, `name` its name in the
    file."""
    value = read_floats(path, name, entry)
    if key == MARK:
        return np.ascontiguousarray(_fit_columns(value, shape[-1]), np.float32)
    if key.endswith("running_var") and value.min() < 0:
        raise CheckpointError(f"{path}: {name} has negative values, expected variances: "
                              "the file is damaged; copy or download it again.")
    if key in FRONT_END:
        published = FRONT_END[key]().astype(np.float32)
        if (difference := float(np.abs(value - published).max())) > FRONT_END_TOLERANCE:
            raise CheckpointError(
                f"{path}: {key} differs by {difference:.2g} from the front end of the published models "
                "(16 kHz, FFT 512, hop 160, 64 HTK bands up to 8 kHz): the model was trained with another "
                "front end, so its scores would be wrong. It cannot be exported.")
        return published
    return value


def _fit_columns(code: NDArray[Any], columns: int) -> NDArray[Any]:
    """Fit a time code [1, d, 1, W] to a number of columns, as the published loader does: keep the first
    columns of a wider code, interpolate a narrower one (bilinear, half-pixel centres, clamped edges)."""
    width = code.shape[-1]
    if width >= columns:
        return code[..., :columns]
    position = np.clip((np.arange(columns) + 0.5) * width / columns - 0.5, 0, width - 1)
    left = position.astype(int)
    right = np.minimum(left + 1, width - 1)
    fraction = position - left
    resized: NDArray[Any] = code[..., left] * (1 - fraction) + code[..., right] * fraction
    return resized


def random(variant: Variant, classes: int, seed: int) -> State:
    """Return weights generated from a seed, as `Family.random` defines."""
    return {key: FRONT_END[key]().astype(np.float32) if key in FRONT_END else _random_weight(key, shape, seed)
            for key, shape in expected_shapes(variant, classes).items()}


def _random_weight(key: str, shape: tuple[int, ...], seed: int) -> NDArray[np.float32]:
    """Generate one weight from its name and the seed."""
    if key.endswith("running_mean"):
        value = -25 + 3 * noise(key, shape, seed)            # dB, as in log-mels of real audio
    elif key.endswith("running_var"):
        value = 17**2 * (1 + 0.2 * noise(key, shape, seed))  # dB^2
    else:
        value = transformer_weight(key, shape, seed, HEAD.removesuffix(".weight"))
    return value.astype(np.float32)


def count_classes(state: State) -> int:
    return len(state[HEAD])


def count_parameters(variant: Variant, classes: int) -> int:
    shapes = expected_shapes(variant, classes)
    return sum(math.prod(shape) for key, shape in shapes.items()
               if key not in FRONT_END and "running" not in key)
