"""EfficientAT graphs for tests."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from satexport.backends.onnxruntime.step import OnnxRuntimeStep
from satexport.bundle.contract import USUAL_OPTIONS, CheckpointOrigin, Contract, GraphOptions
from satexport.graph.roles import Graph
from satexport.models.efficientat import family
from satexport.models.efficientat.variants import Variant
from satexport.models.family import Checkpoint
from satexport.parity.golden import golden_scores, proof_streams
from satexport.pipeline.export import make_contract
from satexport.step import FloatArray

ALLOWED = {  # operators that the parsers of TensorRT 10.3 and OpenVINO accept; no STFT, DFT, If, Loop
    "Add", "Concat", "Conv", "GlobalAveragePool", "HardSwish", "Log", "MatMul", "Mul", "Pad",
    "Relu", "Reshape", "Sigmoid", "Slice", "Split", "Transpose"}


class Stage(NamedTuple):
    """The graph after a rewrite."""

    name: str
    graph: Graph
    contract: Contract

    def scores(self, audio: FloatArray) -> FloatArray:
        """Return the scores [streams, chunks, classes] of chunks [chunks, samples]; each of several streams
        begins one chunk later than the one before."""
        step = OnnxRuntimeStep(self.graph.model.SerializeToString(), self.contract, [])
        return np.asarray(golden_scores(proof_streams(step, self.contract), audio))


def contract_of(variant: Variant, opset: int = 20, options: GraphOptions = USUAL_OPTIONS,
                classes: int = 527) -> Contract:
    return make_contract(variant, classes, options, opset, labels_sha256="",
                         checkpoint=CheckpointOrigin(name="", source="random", sha256=""))


def stages(checkpoint: Checkpoint[Variant], opset: int = 20,
           options: GraphOptions = USUAL_OPTIONS) -> list[Stage]:
    """Return the graph as published and after each rewrite."""
    contract = contract_of(checkpoint.variant, opset, options)
    return [Stage(rewrite.name, rewrite.graph, contract)
            for rewrite in family.rewrites(checkpoint, contract, None)]


def pytorch_scores(checkpoint: Checkpoint[Variant], audio: FloatArray) -> FloatArray:
    """Return the scores [chunks, classes] of chunks [chunks, samples] by PyTorch."""
    return family.reference(checkpoint)(audio, None)[0].scores
