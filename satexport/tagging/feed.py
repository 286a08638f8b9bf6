"""What one stream and several streams share: a caller feeds samples and names the outputs that it wants.
Imports only numpy."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable, Sequence
from typing import overload

from numpy.typing import ArrayLike

from satexport.bundle.contract import Contract
from satexport.errors import UsageError
from satexport.process import ProcessBound
from satexport.step import FloatArray, Outputs


class Feed(ProcessBound, ABC):
    """Takes samples as they arrive and returns the outputs of every completed chunk. In the shapes, a leading
    N is only there for a batch of N streams."""

    _contract: Contract

    @abstractmethod
    def feed_all(self, samples: ArrayLike, sample_rate: int | None = None) -> Outputs:
        """Add samples as `feed` does, and return all outputs of the bundle."""

    @abstractmethod
    def flush_all(self) -> Outputs:
        """Score the waiting samples as `flush` does, and return all outputs of the bundle."""

    @overload
    def feed(self, samples: ArrayLike, sample_rate: int | None = None, *,
             outputs: None = None) -> FloatArray: ...

    @overload
    def feed(self, samples: ArrayLike, sample_rate: int | None = None, *,
             outputs: Sequence[str]) -> tuple[FloatArray, ...]: ...

    def feed(self, samples: ArrayLike, sample_rate: int | None = None, *,
             outputs: Sequence[str] | None = None) -> FloatArray | tuple[FloatArray, ...]:
        """Add samples at the contract's sample rate, floats in [-1, 1] or int16: [n] mono for a `Stream`,
        [N, n] for a `StreamBatch`; n may be 0. If you state their `sample_rate`, in Hz, it is checked.

        Returns the scores of the completed chunks, float32 in (0, 1), independent for each class: [chunks,
        classes], or [chunks, N, classes]. If you name `outputs`, it returns a tuple with an array for each
        name, in your order: "scores", and "embedding", float32 [chunks, size] or [chunks, N, size], if the
        bundle has one.

        Raises `AudioError` for another sample rate, NaN, infinity or a wrong shape or dtype, `UsageError` for
        an output that the bundle does not have, and leaves the streams unchanged. Raises `RunError` if a step
        fails. No samples are lost then: the next call tries the failed chunk again, and also returns the
        outputs of the chunks before it.
        """
        names = check_outputs(outputs, self._contract)
        return select(self.feed_all(samples, sample_rate), names)

    @overload
    def flush(self, *, outputs: None = None) -> FloatArray: ...

    @overload
    def flush(self, *, outputs: Sequence[str]) -> tuple[FloatArray, ...]: ...

    def flush(self, *, outputs: Sequence[str] | None = None) -> FloatArray | tuple[FloatArray, ...]:
        """Score the waiting samples, padded with zeros to whole chunks: one chunk, or none if no samples
        wait. After a failed step more than one chunk may wait. Returns `outputs` and raises as `feed`
        does."""
        names = check_outputs(outputs, self._contract)
        return select(self.flush_all(), names)


def check_outputs(outputs: Sequence[str] | None, contract: Contract) -> tuple[str, ...] | None:
    """Return the names of outputs; None names the scores. Raises `UsageError` if a bundle does not have
    them."""
    if outputs is None:
        return None
    if isinstance(outputs, str) or not isinstance(outputs, Iterable):
        raise UsageError(f"outputs={outputs!r}: expected a tuple of names, such as ('scores', 'embedding').")
    names = tuple(outputs)
    for name in names:
        if name not in Outputs._fields:
            raise UsageError(f"there is no output {name!r}; expected {' or '.join(Outputs._fields)}.")
        if getattr(contract, name) is None:
            raise UsageError(f"this bundle has no {name}: export it with --{name}.")
    return names


def select(outputs: Outputs, names: Sequence[str] | None) -> FloatArray | tuple[FloatArray, ...]:
    """Return the arrays of these names, the scores for None."""
    arrays = outputs.arrays()
    return outputs.scores if names is None else tuple(arrays[name] for name in names)
