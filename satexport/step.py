"""The interface of a step, one run of the model on one chunk of each of N streams, for all runtimes."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from operator import itemgetter
from typing import Any, NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

FloatArray = NDArray[np.float32]
EXECUTED = ("precisions of the graph as compiled by the runtime: the number of layers of the front end, and "
            "of products of the model, in each; empty if the runtime does not report them")
PCM_SCALE = 32_768    # int16 to [-1, 1)
MAX_AMPLITUDE = 8.0   # full scale is 1; larger samples are certainly integers passed as floats


class Outputs(NamedTuple):
    """What steps compute for N streams, the tensors of `Contract.outputs` in that order; of one step as here,
    of several with more dimensions in front."""

    scores: FloatArray                    # [N, classes] in (0, 1)
    embedding: FloatArray | None = None   # [N, size]; None: the graph has none

    def map(self, change: Callable[[FloatArray], FloatArray]) -> Outputs:
        """Return the outputs with each of their arrays changed."""
        return Outputs(change(self.scores), None if self.embedding is None else change(self.embedding))

    @classmethod
    def join(cls, join: Callable[[Sequence[FloatArray]], FloatArray], parts: Sequence[Outputs]) -> Outputs:
        """Return the outputs whose arrays are those of `parts`, at least one, joined by `np.stack` or another
        function."""
        embeddings = [part.embedding for part in parts if part.embedding is not None]
        return cls(join([part.scores for part in parts]), join(embeddings) if embeddings else None)

    def split(self) -> list[Outputs]:
        """Return the outputs of each entry of the first dimension."""
        return [self.map(itemgetter(number)) for number in range(len(self.scores))]

    def arrays(self) -> dict[str, FloatArray]:
        """Return the arrays by name."""
        return {name: array for name, array in self._asdict().items() if array is not None}


class Step(Protocol):
    """One run of the model on one chunk of each of N streams. Each runtime has its own type of cache; only
    the stream holds one."""

    def initial_cache(self, streams: int) -> Any:
        """The cache of this many streams after silence."""

    def __call__(self, x: FloatArray, cache: Any) -> tuple[Outputs, Any]:
        """Take a chunk of each stream [N, ...] and a cache; return the outputs and the new cache. The old
        cache must not be used again: a runtime may update it in place, or alternate between two buffers.
        Raises `RunError` if it fails; the same chunk can then be tried again with the same cache."""

    def silence(self, cache: Any, stream: int) -> Any:
        """Reset one stream of a cache to silence. Returns the cache, which may be the same object. Raises
        `RunError` if a step that failed must be tried again first."""

    def executed(self) -> dict[str, dict[str, int]]:
        """The precisions of the graph as compiled by the runtime: part -> precision -> number of layers; {}
        if the runtime does not report them."""

    def close(self) -> None:
        """Free the runtime's resources: neither the step nor its caches can be used afterwards. A second call
        does nothing. Without a call, they are freed when Python collects the step."""
