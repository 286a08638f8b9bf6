"""SAT graphs for tests, and the scores of the same models in PyTorch."""

from __future__ import annotations

from dataclasses import replace
from functools import cache
from typing import Any, NamedTuple

import numpy as np

from satexport.backends.onnxruntime.step import OnnxRuntimeStep
from satexport.bundle.contract import USUAL_OPTIONS, CheckpointOrigin, Contract, GraphOptions
from satexport.graph.roles import Graph
from satexport.graph.writer import Weights
from satexport.models.checkpoint import load_checkpoint
from satexport.models.family import Checkpoint
from satexport.models.sat.folds import FOLDS
from satexport.models.sat.graph import build_graph
from satexport.models.sat.interface import initial_cache
from satexport.models.sat.reference import PyTorchStep
from satexport.models.sat.variants import VARIANTS, Variant, find_model
from satexport.models.sat.weights import graph_weights
from satexport.parity.golden import golden_scores
from satexport.parity.pytorch import reference_streams
from satexport.pipeline.export import make_contract
from satexport.step import FloatArray
from satexport.tagging.stream import StreamBatch

ALLOWED = {  # operators that the parsers of TensorRT 10.3 and OpenVINO accept; no STFT, DFT, If, Loop
    "Add", "Concat", "Conv", "Gelu", "LayerNormalization", "Log", "MatMul", "Max", "Mul", "Pad", "ReduceMax",
    "ReduceMean", "ReduceSum", "Reshape", "Sigmoid", "Slice", "Softmax", "Split", "Sub", "Transpose"}


# One variant for each graph: ced-tiny has the graph of vit-t, ced-base that of vit-b (`test_ced_targets.py`).
DISTINCT = [key for key in VARIANTS if key[0] not in ("ced-tiny", "ced-base")]


class RunnableGraph(NamedTuple):
    """A graph that can be run."""

    graph: Graph
    variant: Variant
    cache: list[FloatArray]  # the initial one
    opset: int = 20
    options: GraphOptions = USUAL_OPTIONS

    def streams(self, count: int = 1) -> StreamBatch:
        contract = contract_of(self.variant, self.opset, self.options)
        step = OnnxRuntimeStep(self.graph.model.SerializeToString(), contract, self.cache)
        return StreamBatch(step, contract, count)

    def scores(self, audio: FloatArray) -> FloatArray:
        """Return the scores [chunks, classes] of consecutive chunks [chunks, samples] of one stream."""
        return np.asarray(golden_scores(self.streams(), audio)[0])


def contract_of(variant: Variant, opset: int = 20, options: GraphOptions = USUAL_OPTIONS,
                **changes: Any) -> Contract:
    origin = CheckpointOrigin(name="", source="random", sha256="")
    contract = make_contract(variant, 527, options, opset, labels_sha256="", checkpoint=origin)
    return replace(contract, **changes)


CheckpointWeights = tuple[Checkpoint[Variant], Weights]


def hidden_silence(checkpoint: Checkpoint[Variant]) -> FloatArray | None:
    """Return the published cache of one stream after silence, [depth, C, d]."""
    silence = PyTorchStep(checkpoint).initial_cache(1)
    return None if silence is None else silence[:, 0].numpy()


def pytorch_scores(checkpoint: Checkpoint[Variant], audio: FloatArray) -> FloatArray:
    """Return the scores [chunks, classes] by PyTorch."""
    streams = reference_streams(PyTorchStep(checkpoint), contract_of(checkpoint.variant))
    return np.asarray(golden_scores(streams, audio)[0])


def fold_all(weights: Weights) -> Weights:
    for fold in FOLDS.values():
        weights = fold(weights)
    return weights


def graph_of(checkpoint: Checkpoint[Variant], weights: Weights, opset: int = 20,
             options: GraphOptions = USUAL_OPTIONS) -> RunnableGraph:
    variant = checkpoint.variant
    hidden = hidden_silence(checkpoint)
    cache = [] if hidden is None else initial_cache(variant, options, weights, hidden)
    graph = build_graph(variant, weights, contract_of(variant, opset, options))
    return RunnableGraph(graph, variant, cache, opset, options)


@cache
def exported(model: str, delay: int, options: GraphOptions = GraphOptions()) -> Graph:  # noqa: B008
    """Return the graph that an export builds before onnxsim."""
    checkpoint = load_checkpoint("random", find_model(model)[delay])
    weights = fold_all(graph_weights(checkpoint.variant, checkpoint.state))
    return build_graph(checkpoint.variant, weights, contract_of(checkpoint.variant, options=options))
