"""Infer requests and the streams that they serve."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from satexport.step import FloatArray


@dataclass(frozen=True, kw_only=True)
class RequestLane:
    """The streams that one infer request serves.

    A request of a stateful model keeps their states. With explicit caches two requests take turns: each reads
    the buffers that the other one has written."""

    now: Any                        # request of the next step
    spare: Any                      # request of the step after it; with states the same as `now`
    caches: Sequence[NDArray[Any]]  # buffers that `now` reads; () if the request keeps states
    written: Sequence[NDArray[Any]]  # buffers that `now` writes
    x: FloatArray
    outputs: Sequence[FloatArray]   # buffers for `Contract.outputs`

    def swap(self) -> RequestLane:
        """Return the lane after a step: requests and buffers with their roles swapped; the same if it has
        states."""
        if self.now is self.spare:
            return self
        return RequestLane(now=self.spare, spare=self.now, caches=self.written, written=self.caches, x=self.x,
                           outputs=self.outputs)


def run(lanes: Sequence[RequestLane], x: FloatArray) -> list[Exception]:
    """Run a step of all lanes, each with its share of the streams, and return the errors. A single request
    runs in this thread, because handing it to another one takes time; several run in parallel."""
    if len(lanes) == 1:
        lanes[0].x[:] = x
        return _errors(lambda: lanes[0].now.infer(share_outputs=True))
    errors = list[Exception]()
    for lane, chunk in zip(lanes, np.split(x, len(lanes)), strict=True):
        lane.x[:] = chunk
        errors += _errors(lane.now.start_async)
    return errors + [error for lane in lanes for error in _errors(lane.now.wait)]


def _errors(call: Callable[[], object]) -> list[Exception]:
    """The error that a call raises, or none."""
    try:
        call()
    except Exception as error:
        return [error]
    return []
