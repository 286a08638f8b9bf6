"""Run a graph and note the least and the largest value of some of its tensors."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper

from satexport.bundle.contract import Contract
from satexport.graph.edit import opset_of, replace
from satexport.graph.weights import split_weights
from satexport.quantize.factors import Ranges
from satexport.runtimes import import_runtime

Sample = dict[str, NDArray[Any]]  # a graph's inputs by name

TOGETHER = 8           # streams in a pass, at most
TOGETHER_SECONDS = 16  # of audio in a pass: more rows in a product are hardly faster, and need more memory
ROWS, AXES = "observer/rows", "observer/axes"  # an input, the shape [samples, -1]; a constant


def samples_together(contract: Contract) -> int:
    """Return how many samples to run in a pass."""
    most = min(TOGETHER, int(TOGETHER_SECONDS / contract.window_seconds))
    return max(1, most // max(1, contract.options.streams))


def join_samples(samples: Sequence[Sample]) -> Sample:
    """Return several samples as the inputs of one pass."""
    return {name: np.concatenate([sample[name] for sample in samples]) for name in samples[0]}


class Observer:
    """A graph under ONNX Runtime, node by node: a fused node does not compute the tensors inside it. It runs
    several samples at a time, whatever number of streams the graph states: no node has that number as a
    constant, and each tensor lists one stream after another. The graph loads in a thread, so it must not
    change until a first run has ended."""

    def __init__(self, model: onnx.ModelProto, tensors: Iterable[str] = ()) -> None:
        self._tensors = sorted(tensors)
        self._bounds = np.tile(np.array([np.inf, -np.inf], np.float32), (len(self._tensors), 1))
        self._outputs = [value.name for value in model.graph.output]
        thread = ThreadPoolExecutor(1)
        self._session = thread.submit(self._load, import_runtime("onnxruntime"), model)
        thread.shutdown(wait=False)

    def _load(self, runtime: Any, model: onnx.ModelProto) -> Any:
        """Return the session of a graph."""
        content, weights = split_weights(model, self._add_probes)
        options = runtime.SessionOptions()
        options.graph_optimization_level = runtime.GraphOptimizationLevel.ORT_DISABLE_ALL
        self._weights = [runtime.OrtValue.ortvalue_from_numpy(array) for array in weights.values()]
        options.add_external_initializers(list(weights), self._weights)  # which it does not keep alive
        return runtime.InferenceSession(content, options, providers=["CPUExecutionProvider"])

    def run(self, inputs: Sample, noted: Sequence[bool]) -> dict[str, NDArray[Any]]:
        """Run samples that `join_samples` joined and return the outputs of the graph by name. `noted` says of
        each sample whether its tensors are noted."""
        chosen = np.flatnonzero(noted)
        extra = [name for tensor in self._tensors for name in _names(tensor)] if len(chosen) else []
        rows = {ROWS: np.array([len(noted), -1], np.int64)} if self._tensors else {}
        found = self._session.result().run([*self._outputs, *extra], {**inputs, **rows})
        if extra:
            values = np.array(found[len(self._outputs):], np.float32)[:, chosen]  # [2 * tensors, chosen]
            self._bounds = np.stack((np.minimum(self._bounds[:, 0], values[::2].min(1)),
                                     np.maximum(self._bounds[:, 1], values[1::2].max(1))), 1)
        return dict(zip(self._outputs, found, strict=False))

    @property
    def ranges(self) -> Ranges:
        """The least and the largest value of each tensor so far."""
        return {tensor: (low, high) for tensor, (low, high) in
                zip(self._tensors, self._bounds.tolist(), strict=True)}

    def _add_probes(self, model: onnx.ModelProto) -> None:
        """Let the graph run any number of streams, and compute the least and the largest value of each tensor
        in each sample."""
        graph = model.graph
        for value in (*graph.input, *graph.output):
            value.type.tensor_type.shape.dim[0].dim_param = "streams"
        replace(graph.value_info, [])
        if not self._tensors:
            return
        axes, attributes = [AXES], dict[str, Any]()
        if opset_of(model) < 18:
            axes, attributes = [], {"axes": [1]}
        else:
            graph.initializer.append(helper.make_tensor(AXES, TensorProto.INT64, [1], [1]))
        graph.input.append(helper.make_tensor_value_info(ROWS, TensorProto.INT64, [2]))
        for tensor in self._tensors:
            graph.node.append(helper.make_node("Reshape", [tensor, ROWS], [f"{tensor}/rows"]))
            for kind, name in zip(("ReduceMin", "ReduceMax"), _names(tensor), strict=True):
                graph.node.append(helper.make_node(kind, [f"{tensor}/rows", *axes], [name], name, keepdims=0,
                                                   **attributes))
                graph.output.append(helper.make_tensor_value_info(name, TensorProto.FLOAT, ["samples"]))


def _names(tensor: str) -> tuple[str, str]:
    return f"{tensor}/least", f"{tensor}/largest"
