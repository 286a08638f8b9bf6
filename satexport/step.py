"""The interface of a step, one run of the model on one chunk of each of N streams, for all runtimes."""

from __future__ import annotations

from typing import Any, NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

FloatArray = NDArray[np.float32]
EXECUTED = ("precisions of the graph as compiled by the runtime: the number of layers of the front end, and "
            "of products of the model, in each; empty if the runtime does not report them")
PCM_SCALE = 32_768    # int16 to [-1, 1)
MAX_AMPLITUDE = 8.0   # full scale is 1; larger samples are certainly integers passed as floats


class Outputs(NamedTuple):
    """What one step computes for N streams: the tensors of `Contract.outputs`, in that order."""

    scores: FloatArray                    # [N, classes] in (0, 1)
    embedding: FloatArray | None = None   # [N, size]; None: the graph has none


class Step(Protocol):
    """One run of the model on one chunk of each of N streams. Each runtime has its own type of cache; only
    the stream holds one."""

    def initial_cache(self, streams: int) -> Any:
        """The cache of this many streams after silence."""

    def __call__(self, x: FloatArray, cache: Any) -> tuple[Outputs, Any]:
        """Take a chunk of each stream [N, ...] and a cache; return the outputs and the new cache. The old
        cache must not be used again: a runtime may update it in place, or alternate between two buffers."""

    def silence(self, cache: Any, stream: int) -> Any:
        """Reset one stream of a cache to silence. Returns the cache, which may be the same object."""

    def executed(self) -> dict[str, dict[str, int]]:
        """The precisions of the graph as compiled by the runtime: part -> precision -> number of layers; {}
        if the runtime does not report them."""

    def close(self) -> None:
        """Free the runtime's resources: neither the step nor its caches can be used afterwards. A second call
        does nothing. Without a call, they are freed when Python collects the step."""
