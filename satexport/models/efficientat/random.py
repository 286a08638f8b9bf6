"""Weights of a MobileNet generated from a seed.

The statistics of the batch norms are those of sound, as after training; otherwise activations explode or
vanish within 15 blocks. They are computed with numpy in float64 and rounded to 6 bits, so that the last bits,
which depend on the platform, are gone.
"""

from __future__ import annotations

import math
from typing import Final

import numpy as np
from numpy.typing import NDArray

from satexport.audio.synthetic import synthetic_stream
from satexport.models.efficientat.keys import convolutions, expected_shapes, linear_layers
from satexport.models.efficientat.variants import (
    BLOCKS,
    BN_EPS,
    LAST,
    MEAN,
    SCALE,
    Block,
    Variant,
)
from satexport.models.family import State
from satexport.models.seeded import noise

Array = NDArray[np.float64]
CALM: Final = 0.4             # factor of the scales of `_calm`
SECONDS: Final = 8            # of sound that the statistics are of, at least; each is a chunk
POSITIONS: Final = 100_000    # of their log-mel, at least


def random(variant: Variant, classes: int, seed: int) -> State:
    """Return weights generated from a seed, as `Family.random` defines."""
    state = {key: _random_weight(key, shape, seed)
             for key, shape in expected_shapes(variant, classes).items()}
    for key in _calm(variant):
        state[key] *= np.float32(CALM)
    _Statistics(variant, state, classes).write()
    return state


def _calm(variant: Variant) -> list[str]:
    """Return the scales that are small, so that rounding errors do not grow from block to block: those of the
    last batch norm of each residual branch and of the head."""
    layers = convolutions(variant)
    names = [f"{number:02d}.project" for number, block in zip(BLOCKS, variant.blocks, strict=True)
             if block.is_residual]
    return [f"{layers[name].key}.1.weight" for name in names] + [
        "classifier.1.weight"] * (variant.head == "fc")


def _random_weight(key: str, shape: tuple[int, ...], seed: int) -> NDArray[np.float32]:
    """Generate one weight from its name and the seed."""
    value = noise(key, shape, seed)
    if key == "classifier.5.bias":
        value = -2 + 0.5 * value  # a tagger's scores: most low, few high
    elif key.endswith(".bias"):
        value = 0.05 * value
    elif len(shape) == 1:         # scales of batch norms
        value = 1 + 0.1 * value
    else:                         # [out, in], [out, in, rows, columns]
        value = value / math.sqrt(math.prod(shape[1:]))
    return value.astype(np.float32)


class _Statistics:
    """Runs a network over sound and sets the statistics of each batch norm to those of its input."""

    def __init__(self, variant: Variant, state: State, classes: int) -> None:
        self.variant, self.state = variant, state
        self.keys = {name: layer.key for name, layer in
                     (convolutions(variant) | linear_layers(variant, classes)).items()}

    def write(self) -> None:
        rate, front_end = self.variant.sample_rate, self.variant.mel
        frames = front_end.frame_count(rate)
        seconds = max(SECONDS, math.ceil(POSITIONS / (front_end.bands * frames)))
        mel = front_end.compute(synthetic_stream(seconds, "calibrate", rate=rate).reshape(-1, rate), frames)
        x = np.round(16 * (mel[:, None].astype(np.float64) - MEAN) / SCALE) / 16
        x = _hardswish(self._convolve("00.conv", x, 2))
        for number, block in zip(BLOCKS, self.variant.blocks, strict=True):
            x = self._block(f"{number:02d}", block, x)
        x = _hardswish(self._convolve(f"{LAST}.conv", x))
        if self.variant.head == "fc":
            self._normalise("classifier.1", _convolve(x, self.state["classifier.0.weight"], 1))

    def _block(self, name: str, block: Block, x: Array) -> Array:
        activate = _hardswish if block.activation == "hardswish" else _relu
        y = activate(self._convolve(f"{name}.expand", x)) if block.expands else x
        y = activate(self._convolve(f"{name}.depthwise", y, block.stride))
        if block.bottleneck:
            scale = self._linear(f"{name}.excite", _relu(self._linear(f"{name}.squeeze", y.mean((2, 3)))))
            y = y / (1 + np.exp(-scale))[:, :, None, None]
        y = self._convolve(f"{name}.project", y)
        return x + y if block.is_residual else y

    def _convolve(self, name: str, x: Array, stride: int = 1) -> Array:
        key = self.keys[name]
        return self._normalise(f"{key}.1", _convolve(x, self.state[f"{key}.0.weight"], stride))

    def _linear(self, name: str, x: Array) -> Array:
        key = self.keys[name]
        result: Array = x @ self.state[f"{key}.weight"].T + self.state[f"{key}.bias"]
        return result

    def _normalise(self, key: str, x: Array) -> Array:
        mean, variance = _rounded(x.mean((0, 2, 3))), _rounded(x.var((0, 2, 3)))
        self.state[f"{key}.running_mean"] = mean.astype(np.float32)
        self.state[f"{key}.running_var"] = variance.astype(np.float32)
        scale = self.state[f"{key}.weight"] / np.sqrt(variance + BN_EPS)
        shift = self.state[f"{key}.bias"] - mean * scale
        return x * scale[:, None, None] + shift[:, None, None]


def _convolve(x: Array, weight: NDArray[np.float32], stride: int) -> Array:
    """Convolve maps [N, in, H, W] with a weight [out, in, 1, 1] or [out, 1, k, k] of each channel by itself;
    a single map has all outputs."""
    outputs, _, size, _ = weight.shape
    if size == 1:
        maps = weight[:, :, 0, 0].astype(np.float64) @ x.reshape(*x.shape[:2], -1)
        return maps.reshape(len(x), outputs, *x.shape[2:])
    height, width = x.shape[2:]
    edge = size // 2
    x = np.pad(x, ((0, 0), (0, 0), (edge, edge), (edge, edge)))
    total: Array = np.zeros(())
    for row, column in np.ndindex(size, size):
        part = x[:, :, row:row + height:stride, column:column + width:stride]
        total = total + weight[:, 0, row, column, None, None] * part
    return total


def _relu(x: Array) -> Array:
    return np.maximum(x, 0)


def _hardswish(x: Array) -> Array:
    return x * np.clip(x + 3, 0, 6) / 6


def _rounded(x: Array) -> Array:
    """Round to 6 bits."""
    fraction, exponent = np.frexp(x)
    return np.ldexp(np.round(64 * fraction) / 64, exponent)
