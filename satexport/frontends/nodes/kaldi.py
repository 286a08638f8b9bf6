"""Kaldi's log-mel front ends as ONNX nodes that every parser supports: waveform to log-mel.

One convolution with a hop as its stride computes frames, scale, mean, pre-emphasis, window and DFT, because
all of these are linear: its filters are real and imaginary parts of the bins that a mel filter reads.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from satexport.frontends.kaldi import KaldiMel
from satexport.graph.writer import Writer


def kaldi_mel(g: Writer, row: KaldiMel, samples: int, audio: str) -> str:
    """Write the nodes from waveform [N, samples] to the natural logarithm of the mel power, [N, bands,
    frames]. Returns the name of the result."""
    bank = row.filters()
    read = np.flatnonzero(bank.any(1))
    frames = row.frame_count(samples)
    x = g.reshape("mel/channel", audio, -1, 1, samples)
    x = g.op("Conv", "mel/spectrum", x, g.constant("mel.waves", _waves(row, read)), strides=[row.hop],
             kernel_shape=[row.frame])                                  # [N, (part, bin), F]
    x = g.op("Mul", "mel/squares", x, x)
    x = g.sum("mel/bins", g.reshape("mel/squares/parts", x, -1, 2, len(read), frames), 1)
    x = g.op("MatMul", "mel/power", g.constant("mel.filters", bank[read].T), x)
    x = g.op("Max", "mel/floored", x, g.scalar("mel.floor", row.floor))
    return g.op("Log", "mel/log", x)


def _waves(row: KaldiMel, bins: NDArray[np.int64]) -> NDArray[np.float64]:
    """Return the filters from the samples of a frame to its spectrum, [2 * bins, 1, frame]: first all real
    parts, then all imaginary ones."""
    turns = np.outer(np.arange(row.frame), bins) / row.n_fft
    spectrum = row.frame_matrix() @ np.exp(-2j * np.pi * turns)         # [frame, bins]
    waves: NDArray[np.float64] = np.hstack((spectrum.real, spectrum.imag)).T
    return waves[:, None]
