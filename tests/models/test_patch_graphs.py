"""The graphs of AST and PaSST, whose patches, blocks, folds and head are the same code (`patch_graph`)."""

from __future__ import annotations

from functools import cache
from itertools import pairwise
from typing import Any

import numpy as np
import onnx
import pytest

from satexport.graph.simplify import graph_size
from satexport.models.checkpoint import load_checkpoint
from satexport.models.families import find_variant
from satexport.models.family import Checkpoint
from satexport.pipeline.export import REWRITE_TOLERANCE, golden_audio
from tests.models.stateless import contract_of, graph_of, rewrites_of, run

TINY = {"ast-48x3x2x96": 1214, "passt-s10-48x3x2x192": 110}  # model -> tokens at 1 s
models = pytest.mark.parametrize("model", TINY)
pytestmark = pytest.mark.usefixtures("own_cache_folder", "one_thread")


@cache
def tiny(model: str) -> Checkpoint[Any]:
    return load_checkpoint("random", find_variant(model, 1))


@models
def test_each_fold_removes_work_and_keeps_the_scores(model: str) -> None:
    checkpoint = tiny(model)
    contract, audio = contract_of(checkpoint.variant), golden_audio(checkpoint.variant)[:1]
    graphs = list(rewrites_of(checkpoint).values())
    scores = [run(graph, contract, audio) for graph in graphs]
    sizes = [graph_size(graph.model) for graph in graphs]
    assert len(graphs) == 5
    assert max(np.abs(before - after).max() for before, after in pairwise(scores)) <= REWRITE_TOLERANCE
    for before, after in pairwise(sizes):
        assert after[0] <= before[0]
        assert after[1] < before[1]


@models
def test_the_graph_has_static_shapes(model: str) -> None:
    graph, tokens = graph_of(tiny(model)).model, TINY[model]
    (audio,), (scores,) = ([tuple(d.dim_value for d in value.type.tensor_type.shape.dim) for value in values]
                           for values in (graph.graph.input, graph.graph.output))
    assert (audio, scores) == ((1, tiny(model).variant.sample_rate), (1, 527))
    inferred = onnx.shape_inference.infer_shapes(graph, data_prop=True).graph
    shapes = {value.name: [d.dim_value for d in value.type.tensor_type.shape.dim]
              for value in inferred.value_info}
    assert shapes["block_00/softmax"] == [1, 3, tokens, tokens]
    assert shapes["block_01/softmax"] == [1, 3, 2, tokens]  # only the two extra tokens are read afterwards
    assert shapes["block_01/out"] == [2, 48]


@models
def test_the_graph_has_the_epsilons_of_the_published_norms(model: str) -> None:
    eps = [attribute.f for node in graph_of(tiny(model)).model.graph.node
           if node.op_type == "LayerNormalization"
           for attribute in node.attribute if attribute.name == "epsilon"]
    np.testing.assert_allclose(eps, [1e-6] * 5 + [1e-5], rtol=1e-6)


@models
def test_every_product_has_a_role(model: str) -> None:
    graph = graph_of(tiny(model))
    without = [node.name for node in graph.model.graph.node
               if node.op_type in ("MatMul", "Conv") and node.name not in graph.roles]
    assert without == []
    assert [str(role) for role in dict.fromkeys(graph.roles.values())] == [
        "front_end", "patch",
        *(f"{kind} {layer:02d}.{part}" for layer in (0, 1) for kind, part in (
            ("linear", "q"), ("linear", "kv"), ("attention", "logits"), ("attention", "mixed"),
            ("linear", "proj"), ("linear", "fc1"), ("linear", "fc2"))),
        "head"]
