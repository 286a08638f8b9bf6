"""Graphs and scores of models without a cache, of any family."""

from __future__ import annotations

from typing import Any

import numpy as np

from satexport.backends.onnxruntime.step import OnnxRuntimeStep
from satexport.bundle.contract import USUAL_OPTIONS, CheckpointOrigin, Contract, GraphOptions
from satexport.frontends.prepare import model_input
from satexport.graph.roles import Graph
from satexport.models.families import find_family, make_reference
from satexport.models.family import Checkpoint, Variant
from satexport.pipeline.export import make_contract
from satexport.step import FloatArray


def contract_of(variant: Variant, options: GraphOptions = USUAL_OPTIONS, opset: int = 20) -> Contract:
    origin = CheckpointOrigin(name="", source="random", sha256="")
    return make_contract(variant, 527, options, opset, labels_sha256="", checkpoint=origin)


def rewrites_of(checkpoint: Checkpoint[Any], options: GraphOptions = USUAL_OPTIONS,
                opset: int = 20) -> dict[str, Graph]:
    """Return the graph as published and after each rewrite, by name."""
    family = find_family(checkpoint.variant.family)
    contract = contract_of(checkpoint.variant, options, opset)
    return {rewrite.name: rewrite.graph for rewrite in family.rewrites(checkpoint, contract, None)}


def graph_of(checkpoint: Checkpoint[Any], options: GraphOptions = USUAL_OPTIONS, opset: int = 20) -> Graph:
    """Return the graph that ships."""
    return list(rewrites_of(checkpoint, options, opset).values())[-1]


def run(graph: Graph, contract: Contract, audio: FloatArray) -> FloatArray:
    """Return the scores [N, classes] of chunks [N, samples] by ONNX Runtime."""
    step = OnnxRuntimeStep(graph.model.SerializeToString(), contract, [])
    return np.array(step(model_input(contract, audio), step.initial_cache(len(audio)))[0].scores)


def scores_of(checkpoint: Checkpoint[Any], audio: FloatArray) -> FloatArray:
    """Return the scores [N, classes] of chunks [N, samples] by PyTorch."""
    return np.asarray(make_reference(checkpoint)(audio, None)[0].scores)
