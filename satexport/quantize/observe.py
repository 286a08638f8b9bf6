"""Run a graph and note the least and the largest value of some of its tensors."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import helper

from satexport.graph.weights import split_weights
from satexport.quantize.factors import Ranges
from satexport.runtimes import import_runtime

Sample = dict[str, NDArray[Any]]  # a graph's inputs by name


class Observer:
    """A graph under ONNX Runtime, node by node: a fused node does not compute the tensors inside it."""

    def __init__(self, model: onnx.ModelProto, tensors: Iterable[str] = ()) -> None:
        runtime = import_runtime("onnxruntime")
        self._tensors = sorted(tensors)
        self._bounds = np.tile(np.array([np.inf, -np.inf], np.float32), (len(self._tensors), 1))
        self._outputs = [value.name for value in model.graph.output]
        content, weights = split_weights(model, self._least_and_largest())
        options = runtime.SessionOptions()
        options.graph_optimization_level = runtime.GraphOptimizationLevel.ORT_DISABLE_ALL
        self._weights = [runtime.OrtValue.ortvalue_from_numpy(array) for array in weights.values()]
        options.add_external_initializers(list(weights), self._weights)  # which it does not keep alive
        self._session = runtime.InferenceSession(content, options, providers=["CPUExecutionProvider"])

    def run(self, sample: Sample, note: bool = True) -> dict[str, NDArray[Any]]:
        """Return the outputs of the graph by name; note the tensors, or do not."""
        extra = [name for tensor in self._tensors for name in _names(tensor)] if note else []
        found = self._session.run([*self._outputs, *extra], sample)
        if extra:
            least, largest = np.array(found[len(self._outputs):], np.float32).reshape(-1, 2).T
            self._bounds = np.stack((np.minimum(self._bounds[:, 0], least),
                                     np.maximum(self._bounds[:, 1], largest)), 1)
        return dict(zip(self._outputs, found, strict=False))

    @property
    def ranges(self) -> Ranges:
        """The least and the largest value of each tensor so far."""
        return {tensor: (low, high) for tensor, (low, high) in
                zip(self._tensors, self._bounds.tolist(), strict=True)}

    def _least_and_largest(self) -> list[onnx.NodeProto]:
        return [helper.make_node(kind, [tensor], [name], name, keepdims=0) for tensor in self._tensors
                for kind, name in zip(("ReduceMin", "ReduceMax"), _names(tensor), strict=True)]


def _names(tensor: str) -> tuple[str, str]:
    return f"{tensor}/least", f"{tensor}/largest"
