"""Convert audio to the input of a graph, waveform or features. Imports only numpy."""

from __future__ import annotations

import numpy as np

from satexport.bundle.contract import Contract
from satexport.frontends.rows import find_front_end
from satexport.step import FloatArray

FLOAT_BYTES = 4


def model_input(contract: Contract, chunk: FloatArray) -> FloatArray:
    """Return the contiguous input of one step for a chunk of each stream [N, window_samples] in [-1, 1]:
    the chunk itself, or its features [N, bands, frames] if the front end is not in the graph.

    Raises `BundleError` if the graph needs a front end that this version does not have.
    """
    if contract.options.input == "audio":
        return np.ascontiguousarray(chunk)
    return find_front_end(contract.front_end).compute(chunk, contract.input.shape[2])


def check_front_end(contract: Contract) -> None:
    """Raise `BundleError` if the graph needs a front end that this version does not have."""
    if contract.options.input != "audio":
        find_front_end(contract.front_end)


def front_end_bytes(contract: Contract) -> int:
    """Return the bytes of the two largest tensors of the front end in one step of one stream: each has about
    as many numbers per frame as the frame has samples. 0 if the contract does not describe frames."""
    frame, hop = contract.front_end.get("n_fft"), contract.front_end.get("hop")
    if not (isinstance(frame, int) and isinstance(hop, int) and hop > 0):
        return 0
    return 2 * FLOAT_BYTES * frame * (contract.window_samples // hop)
