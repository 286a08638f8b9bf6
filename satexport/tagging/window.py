"""The audio before a chunk, for graphs that take more than the chunk. Imports only numpy."""

from __future__ import annotations

import numpy as np

from satexport.bundle.contract import Contract
from satexport.step import FloatArray


class Windows:
    """The last samples of N streams. A step takes them and then a new chunk, together one window of each
    stream; before a stream began, they are zeros. They change only by `advance`, so that a step that failed
    can be tried again. If a window is as long as a chunk, there are none, and nothing is copied."""

    def __init__(self, contract: Contract, count: int) -> None:
        self._hop = contract.hop_samples
        self._earlier: FloatArray = np.zeros((count, contract.history_samples), np.float32)

    def end_with(self, chunk: FloatArray) -> FloatArray:
        """Return the windows [N, window_samples] that end with a chunk of each stream [N, hop_samples]."""
        return np.concatenate((self._earlier, chunk), axis=1) if self._earlier.size else chunk

    def advance(self, windows: FloatArray) -> None:
        """Keep what the next windows need of these, which `end_with` returned: a view, without a copy."""
        if self._earlier.size:
            self._earlier = windows[:, self._hop:]

    def reset(self, stream: int) -> None:
        """Replace the earlier audio of one stream by zeros."""
        self._earlier = self._earlier.copy()  # it may be a view of what a step still holds
        self._earlier[stream] = 0
