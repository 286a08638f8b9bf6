"""Infer requests and the streams that they serve."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import chain
from typing import Any

import numpy as np
from numpy.typing import NDArray

from satexport.step import FloatArray


@dataclass(kw_only=True)
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
    is_done: bool = False           # it has computed the chunk of a step that failed in another lane

    def swap(self) -> RequestLane:
        """Return the lane after a step: requests and buffers with their roles swapped; the same if it has
        states."""
        self.is_done = False
        if self.now is self.spare:
            return self
        return RequestLane(now=self.spare, spare=self.now, caches=self.written, written=self.caches, x=self.x,
                           outputs=self.outputs)


def run(lanes: Sequence[RequestLane], x: FloatArray) -> list[Exception]:
    """Run a step of all lanes, each with its share of the streams, and return the errors. A single request
    runs in this thread, because handing it to another one takes time; several run in parallel. If some fail,
    the same chunk can be tried again: the others have advanced their states and do not run it twice."""
    if len(lanes) == 1:
        lanes[0].x[:] = x
        return _errors(lambda: lanes[0].now.infer(share_outputs=True))
    shares = zip(lanes, np.split(x, len(lanes)), strict=True)
    todo = [(lane, chunk) for lane, chunk in shares if not lane.is_done]
    errors = []
    for lane, chunk in todo:
        lane.x[:] = chunk
        errors.append(_errors(lane.now.start_async))
    for (lane, _), found in zip(todo, errors, strict=True):
        found.extend(_errors(lane.now.wait))
        lane.is_done = not found
    return list(chain.from_iterable(errors))


def _errors(call: Callable[[], object]) -> list[Exception]:
    """The error that a call raises, or none."""
    try:
        call()
    except Exception as error:
        return [error]
    return []
