"""Run a graph that is no file (yet), without a copy of its weights."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import onnx
from numpy.typing import NDArray

from satexport.backends.onnxruntime.step import OnnxRuntimeStep
from satexport.bundle.contract import Contract
from satexport.graph.weights import split_weights


def step_in_memory(model: onnx.ModelProto, contract: Contract,
                   cache: Iterable[NDArray[Any]]) -> OnnxRuntimeStep:
    """Return the step of a model; `cache` is the initial cache of a single stream. Raises the errors of
    `OnnxRuntimeStep`."""
    graph, weights = split_weights(model)
    return OnnxRuntimeStep(graph, contract, cache, weights=weights)
