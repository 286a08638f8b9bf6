"""A step: one pass over one chunk of each of N streams, whichever runtime does it."""

from __future__ import annotations

from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

FloatArray = NDArray[np.float32]
EXECUTED = ("precisions read back from what the runtime made of the graph: how many layers of the front "
            "end, and how many products of the model, in each; empty where it does not tell")
PCM_SCALE = 32_768    # int16 to [-1, 1)
LOUDEST = 8.0         # full scale is 1; above this the samples are surely integers given as floats


class Step(Protocol):
    """One pass over one chunk of each of N streams. A cache is whatever the runtime likes; only the
    stream keeps it."""

    def initial_cache(self, streams: int) -> Any:
        """The cache of so many streams after silence."""

    def __call__(self, x: FloatArray, cache: Any) -> tuple[FloatArray, Any]:
        """A chunk of each stream [N, ...] and a cache to scores [N, classes] and the new cache. Only that
        may be used from then on: a runtime may keep the state itself, or let two buffers take turns."""

    def silence(self, cache: Any, stream: int) -> Any:
        """The cache with one of its streams back at silence; it may be the same object."""

    def executed(self) -> dict[str, dict[str, int]]:
        """Precisions as read back from what the runtime made of the graph: part -> precision -> number of
        layers; {} where it does not tell."""

    def close(self) -> None:
        """Let go of what the runtime holds: neither the step nor its caches can be used afterwards. To close
        it again does nothing. Of a step that is not closed it goes when Python collects it."""
