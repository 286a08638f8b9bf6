"""Weights of a variant: read from a file, or made from a seed."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Final

import numpy as np
from numpy.typing import NDArray

from satexport.errors import CheckpointError
from satexport.frontends.rows import SLANEY_MEL_32K as MEL
from satexport.models.family import State, StateFile
from satexport.models.htsat.keys import (
    FILTERS,
    FRONT_END,
    HEAD,
    HEAD_WEIGHT,
    PREFIX,
    WAVES,
    expected_shapes,
    find_prefix,
)
from satexport.models.htsat.sizes import advice, shapes_like, without_unused
from satexport.models.htsat.variants import Variant
from satexport.models.mismatch import check_shapes
from satexport.models.seeded import noise, transformer_weight
from satexport.models.weightfile import read_floats

TOLERANCE: Final = 1e-4  # of the front end in a file, relative to its largest number


def read(file: StateFile, variant: Variant, path: Path) -> State:
    """Return the weights of a file under the published names without their prefix, in the order of
    `expected_shapes`. The front end that a file contains must be that of the graph. Raises
    `CheckpointError`."""
    prefix = find_prefix(file.shapes)
    prefix = PREFIX if prefix is None else prefix
    shapes = without_unused(file.shapes, prefix)
    expected = shapes_like(shapes, variant, prefix)
    check_shapes(path, variant, shapes, expected, lambda: advice(file.shapes, variant, file))
    _check_front_end(file, prefix, path)
    return {key.removeprefix(prefix): read_floats(path, key, file.entries[key]) for key in expected}


def _check_front_end(file: StateFile, prefix: str, path: Path) -> None:
    """Raise `CheckpointError` if the file has another front end than MEL; entries that it lacks are not
    checked."""
    for key, value in front_end_entries().items():
        name = prefix + key
        if name not in file.entries:
            continue
        entry = file.entries[name]
        is_equal = entry.shape == FRONT_END[key] and np.allclose(
            read_floats(path, name, entry), value, rtol=0, atol=TOLERANCE * np.abs(value).max())
        if not is_equal:
            what = "mel filters" if key == FILTERS else "STFT"
            raise CheckpointError(
                f"{path}: {name} has another {what} than the published HTS-AT, which is not "
                f"supported; expected a model for audio of {MEL.sample_rate // 1000} kHz with frames of "
                f"{MEL.n_fft} samples and {MEL.bands} bands from {MEL.f_min:g} to {MEL.f_max:g} Hz.")


def front_end_entries() -> State:
    """Return the entries of a published file that follow from the front end: the STFT as the weights of two
    convolutions, [513, 1, 1024] each, and the mel filters, [513, 64]."""
    turns = np.outer(np.arange(MEL.bins), np.arange(MEL.n_fft)) % MEL.n_fft / MEL.n_fft
    waves = np.exp(-2j * np.pi * turns) * MEL.window()
    entries = {WAVES[0]: waves.real[:, None], WAVES[1]: waves.imag[:, None], FILTERS: MEL.filters()}
    return {key: value.astype(np.float32) for key, value in entries.items()}


def random(variant: Variant, classes: int, seed: int) -> State:
    """Return weights generated from a seed, as `Family.random` defines."""
    return {key: _random_weight(key, shape, seed).astype(np.float32)
            for key, shape in expected_shapes(variant, classes).items()}


def _random_weight(key: str, shape: tuple[int, ...], seed: int) -> NDArray[np.float64]:
    if key == "bn0.running_mean":
        return -30 + 5 * noise(key, shape, seed)  # dB
    if key == "bn0.running_var":
        return 300 + 50 * noise(key, shape, seed)
    if key.endswith("bias_table"):
        return 0.5 * noise(key, shape, seed)
    return transformer_weight(key, shape, seed, HEAD)


def count_classes(state: State) -> int:
    return len(state[HEAD_WEIGHT])


def count_parameters(variant: Variant, classes: int) -> int:
    return sum(math.prod(shape) for key, shape in expected_shapes(variant, classes).items()
               if "running" not in key)
