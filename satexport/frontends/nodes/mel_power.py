"""The mel power of a signal's frames as ONNX nodes that every parser supports.

This is a real FFT in two stages with two products, without STFT or DFT nodes. A frame of `n_fft` samples is
split into rows of 32 samples, or of fewer if a hop is not a whole number of those, so that each frame starts
at a row. Framing, window and the first stage, a DFT of `points = n_fft / row` points along the rows, are one
grouped convolution; the second stage is one product per remaining frequency. With n = row a + b and k = k1 +
points k2:

    X[k] = sum_b W_n_fft^(b k) sum_a w[n] x[n] W_points^(a k1)        W_N = exp(-2 pi i / N)

The signal is real: k1 = 0 ... points / 2 gives every bin, and a bin k below 0 has the power of -k. For k1 = 0
and points / 2 the first stage is real: these two share a place, as real and imaginary part of one. Column m
of the second stage has the bins from m to m + 1 halves of `points`, so that each group of bands reads a short
range of columns; columns that no filter reads are left out. If the window is shorter than `n_fft`, the frame
begins with it: the zeros that follow need no rows, and the power does not depend on where the window is.

For 2 s at 16 kHz with frames of 512 this takes 18 MFLOP, compared to 118 for a product with a matrix of 512
waves. Other variants: 32 rows of 16 (10 % faster, but scores deviate by up to 1.5e-4 on the ten minutes of
parity, compared to 0.9e-4 here and 0.5e-4 from PyTorch's rounding), 8 x 64, frames and batched products
instead of the convolution (equally fast, more nodes), ReduceSum in place of Split, Mul and Add (2 % faster
under ONNX Runtime, 5 % slower under OpenVINO), ReduceSumSquare (slower), one product for all bands (5 %
slower under ONNX Runtime, 9 % under OpenVINO).
"""

from __future__ import annotations

from dataclasses import dataclass
from math import gcd

import numpy as np
from numpy.typing import NDArray

from satexport.graph.writer import Writer

LONGEST_ROW = 32  # samples
ROUNDING = 1e-12  # of the largest weight of the filters

Array = NDArray[np.float64]


@dataclass(frozen=True, kw_only=True)
class MelPower:
    """Frames, their FFT and mel filters."""

    n_fft: int      # samples per frame, with the zeros around the window; even
    hop: int        # samples from one frame to the next
    window: Array   # [n_fft] or shorter, centred in the frame
    filters: Array  # [n_fft / 2 + 1, bands]
    groups: int = 4  # of equally many neighbouring bands; a group's product takes only the bins that it reads

    @property
    def row(self) -> int:
        """Samples per row, indexed by b: half a frame, the window and a hop are whole numbers of rows."""
        return gcd(LONGEST_ROW, self.n_fft // 2, len(self.window), self.hop)

    @property
    def left(self) -> int:
        """Samples of the first window before the signal begins."""
        return len(self.window) // 2

    def span(self, frames: int) -> int:
        """Return the samples from the beginning of the first window to the end of the last one."""
        return (frames - 1) * self.hop + len(self.window)

    def write(self, g: Writer, signal: str, samples: int, frames: int) -> str:
        """Write the nodes from a signal [N, samples] that is no longer than the frames to the power of the
        mel bands, [N, bands, frames]; frames are centred, the signal is reflected at its ends. Returns the
        name of the result."""
        row, k1, columns = self.row, self._places, len(self._columns())
        rows = self.span(frames) // row
        right = rows * row - self.left - samples
        assert right >= 0
        x = g.op("Pad", "mel/padded", signal, g.ints(0, self.left, 0, right), mode="reflect")
        x = g.reshape("mel/rows", x, -1, rows, row)
        x = g.op("Transpose", "mel/columns", x, perm=[0, 2, 1])
        x = g.op("Conv", "mel/first", x, g.constant("mel.first", self._first_stage()), group=row,
                 strides=[self.hop // row], kernel_shape=[len(self.window) // row])  # [N, (b, k1, part), F]
        x = g.reshape("mel/first/parts", x, -1, row, 2 * k1, frames)
        x = g.op("Transpose", "mel/first/sorted", x, perm=[0, 2, 1, 3])
        x = g.reshape("mel/first/grouped", x, -1, k1, 2 * row, frames)         # [N, k1, (part, b), F]
        x = g.op("MatMul", "mel/spectrum", g.constant("mel.second", self._second_stage()), x)
        real, imaginary = g.split("mel/spectrum/parts", x, 2, columns, columns)
        x = g.op("Add", "mel/bins", g.op("Mul", "mel/real/squares", real, real),
                 g.op("Mul", "mel/imaginary/squares", imaginary, imaginary))   # [N, k1, m, F]
        parts = [self._write_group(g, x, number, filters, frames)
                 for number, filters in enumerate(np.array_split(self._sorted_filters(), self.groups))]
        return g.op("Concat", "mel/power", *parts, axis=1)

    def _write_group(self, g: Writer, bins: str, number: int, filters: Array, frames: int) -> str:
        """Write the product of bins [N, k1, m, F] and the filters of a group of bands, [bands, k1, m]."""
        read = np.flatnonzero(filters.any((0, 1)))
        first, end = int(read[0]), int(read[-1]) + 1
        x = g.slice(f"mel/bins/group_{number}", bins, 2, first, end)
        x = g.reshape(f"mel/bins/group_{number}/sorted", x, -1, self._places * (end - first), frames)
        weight = g.constant(f"mel.filters.group_{number}", filters[:, :, first:end].reshape(len(filters), -1))
        return g.op("MatMul", f"mel/power/group_{number}", weight, x)

    @property
    def _points(self) -> int:
        """Rows per frame, indexed by a: the length of the first stage."""
        return self.n_fft // self.row

    @property
    def _places(self) -> int:
        """Complex values per b that the first stage gives, indexed by k1."""
        return self._points // 2

    def _columns(self) -> NDArray[np.int64]:
        """The columns m of the second stage whose bins have a filter."""
        return np.flatnonzero(self._filters_of(self._bins(np.arange(self.row + 1))).any((0, 2)))

    def _bins(self, columns: NDArray[np.int64]) -> NDArray[np.int64]:
        """The bins k = k1 + points k2 of these columns, [k1, m], of any sign. Their absolute values lie
        between m and m + 1 halves of `points`; if m is odd, they are negative. The place k1 = 0 has the bin
        m points / 2, which the frequency points / 2 gives if m is odd."""
        k1 = np.arange(self._places)[:, None]
        bins: NDArray[np.int64] = k1 + self._points * np.where(columns % 2, -(columns + 1) // 2, columns // 2)
        bins[0] = columns * self._places
        return bins

    def _filters_of(self, bins: NDArray[np.int64]) -> Array:
        """The filters of bins of any sign, [*bins.shape, bands]; zeros for those above n_fft / 2, which occur
        a second time, and for weights that are only a rounding error of the end of a filter."""
        weights = np.where(self.filters > ROUNDING * self.filters.max(), self.filters, 0)
        filters = np.pad(weights, ((0, self._points), (0, 0)))
        taken: Array = filters[np.abs(bins)]
        return taken

    def _first_stage(self) -> Array:
        """Window and DFT along the rows: one filter per (b, k1, real or imaginary part), [row * 2 * k1, 1,
        rows of the window]. In place of the imaginary part of k1 = 0, which is zero, stands points / 2."""
        window = self.window.reshape(-1, self.row)
        angles = np.outer(np.arange(self._places), np.arange(len(window)))
        waves = np.exp(-2j * np.pi / self._points * angles)
        parts = np.stack((waves.real, waves.imag), 1)                          # [k1, part, a]
        parts[0, 1] = (-1.0) ** np.arange(len(window))
        filters: Array = np.einsum("kpa,ab->bkpa", parts, window)
        return filters.reshape(-1, 1, len(window))

    def _second_stage(self) -> Array:
        """For each k1, the matrix from b to the columns, each with real and imaginary part: [k1, 2 * m,
        2 * row]."""
        columns = self._columns()
        turns = self._bins(columns)[:, :, None] * np.arange(self.row)                        # [k1, m, b]
        waves = np.exp(-2j * np.pi / self.n_fft * turns)
        left, right = (np.concatenate(parts, 1) for parts in (  # of the parts of the first stage
            (waves.real, waves.imag), (-waves.imag, waves.real)))
        odd = np.tile(columns % 2, 2)[:, None]
        left[0], right[0] = left[0] * (1 - odd), left[0] * odd  # both are real parts
        return np.concatenate((left, right), 2)

    def _sorted_filters(self) -> Array:
        """The mel filters in the order of the second stage's output, [bands, k1, m]."""
        filters: Array = self._filters_of(self._bins(self._columns())).transpose(2, 0, 1)
        return filters
