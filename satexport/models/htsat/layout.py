"""The order of tokens in the graph, and the constants that depend on it.

A graph has its tokens in Z-order: the bits of row and column alternate. A token, its neighbour below, the one
to the right and the one below that are next to each other, then the three other squares of four, and so on.
So the tokens of a window (8 x 8), of a quarter of it (4 x 4), and the four tokens that become one between
stages are each a range of rows: windows and downsampling are no more than another shape of the same tokens,
and the shift of windows by 4 rows and columns permutes quarters.
"""

from __future__ import annotations

from functools import cache

import numpy as np
from numpy.typing import NDArray

from satexport.models.htsat.variants import FRAMES, MASKED, PIECES, SIDE, WINDOW

Indices = NDArray[np.int64]
Array = NDArray[np.float64]
QUARTER = WINDOW // 2  # rows and columns of tokens that move together when windows are shifted


@cache
def z_order(side: int) -> tuple[Indices, Indices]:
    """Return the rows and the columns of the tokens of a map in Z-order, [side ** 2] each."""
    number = np.arange(side ** 2)
    rows, columns = (sum(((number >> (2 * bit + odd)) & 1) << bit for bit in range(side.bit_length() - 1))
                     + 0 * number for odd in (0, 1))
    return rows, columns


def z_index(rows: Indices, columns: Indices, side: int) -> Indices:
    """Return the places of tokens in Z-order."""
    places = np.empty((side, side), np.int64)
    places[z_order(side)] = np.arange(side ** 2)
    return places[rows % side, columns % side]


def shifted_quarters(side: int, by: int) -> Indices:
    """Return for each quarter of a window, in Z-order, which one comes there when the map of `side` rows of
    tokens moves up and left by this number of quarters; -1 moves it back."""
    rows, columns = z_order(side // QUARTER)
    return z_index(rows + by, columns + by, side // QUARTER)


def position_index() -> Indices:
    """Return the row of the relative position bias table for each pair of tokens in a window, [64, 64]."""
    rows, columns = z_order(WINDOW)
    down, right = (place[:, None] - place + WINDOW - 1 for place in (rows, columns))
    return np.asarray(down * (2 * WINDOW - 1) + right)


def shift_mask(side: int) -> Array:
    """Return what is added to the logits of the windows of a shifted map, [windows, 1, 64, 64]: the last rows
    and columns come from the other side of the map and do not see their neighbours."""
    zones = np.zeros(side, np.int64)
    zones[-WINDOW:], zones[-WINDOW // 2:] = 1, 2
    rows, columns = z_order(side)
    zone = (3 * zones[rows] + zones[columns]).reshape(-1, 1, WINDOW ** 2)
    return np.asarray(MASKED * (zone[..., None] != zone[..., None, :]))


def stretch_matrix(frames: int = FRAMES, rows: int = PIECES * SIDE) -> Array:
    """Return the matrix [frames, rows] of a bicubic stretch (a = -0.75) from end to end, with neighbours
    beyond the ends clamped. The published implementation computes the positions in float32, which moves some
    by 6e-5 of a frame: at the edges of digital silence, that changes logits by up to 5e-4."""
    step = np.float32((frames - 1) / (rows - 1))
    position = step * np.arange(rows, dtype=np.float32)
    before = np.floor(position)
    t = (position - before).astype(np.float64)
    matrix = np.zeros((frames, rows))
    for tap in range(-1, 3):
        distance, a = np.abs(t - tap), -0.75
        inner = ((a + 2) * distance - (a + 3)) * distance ** 2 + 1
        outer = ((a * distance - 5 * a) * distance + 8 * a) * distance - 4 * a
        source = np.clip(before.astype(np.int64) + tap, 0, frames - 1)
        np.add.at(matrix, (source, np.arange(rows)), np.where(distance <= 1, inner, outer))
    return matrix


def pool_matrix() -> Array:
    """Return the matrix [64, 6] from the tokens of the last stage to the means over time that the head reads,
    one for each height and tap of its convolution: of all 32 steps, without the last or without the first
    (where a tap reads beyond the ends). The mean of the convolution is the product of these six with its
    weight."""
    rows, columns = z_order(WINDOW)
    steps = PIECES * WINDOW
    height, step = rows % 2, WINDOW * (rows // 2) + columns
    read = [(height == h) & (step + 1 >= tap) & (step + 1 < steps + tap)
            for h in range(2) for tap in range(3)]
    return np.asarray(np.stack(read, 1) / steps)
