"""A graph is checked, simplified and run without a copy of its weights, and nothing else changes."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import helper, numpy_helper

from satexport.backends.onnxruntime.in_memory import step_in_memory
from satexport.backends.onnxruntime.step import OnnxRuntimeStep
from satexport.bundle.folder import open_bundle
from satexport.graph.edit import clone
from satexport.graph.weights import (
    is_large,
    restore_weights,
    split_weights,
    weight_bytes,
    without_weights,
)
from satexport.parity.golden import golden_scores, proof_streams
from satexport.step import FloatArray


@pytest.fixture(scope="module")
def model(tiny: Path) -> onnx.ModelProto:
    return onnx.load(open_bundle(tiny).graph)


def test_a_graph_without_its_weights_is_small_and_valid(model: onnx.ModelProto) -> None:
    small = without_weights(model)
    onnx.checker.check_model(small, full_check=True)
    assert small.ByteSize() + weight_bytes(model) == pytest.approx(model.ByteSize(), rel=0.01)
    assert weight_bytes(model) > 0.5 * model.ByteSize()


def test_a_weight_of_the_wrong_shape_is_still_found(model: onnx.ModelProto) -> None:
    wrong = clone(model)
    large = {constant.name: constant for constant in wrong.graph.initializer if is_large(constant)}
    product = next(node for node in wrong.graph.node if node.op_type == "MatMul" and node.input[1] in large)
    weight = large[product.input[1]]
    weight.CopyFrom(numpy_helper.from_array(np.zeros((77, 77), np.float32), weight.name))
    with pytest.raises(onnx.shape_inference.InferenceError, match=product.name):
        onnx.checker.check_model(without_weights(wrong), full_check=True)


def test_restored_weights_give_the_same_bytes(model: onnx.ModelProto) -> None:
    again = without_weights(model)
    restore_weights(again, model)
    assert again.SerializeToString(deterministic=True) == model.SerializeToString(deterministic=True)


def test_a_new_constant_follows_the_restored_ones_and_an_unread_one_is_dropped(
        model: onnx.ModelProto) -> None:
    changed = without_weights(model)
    changed.graph.initializer.append(numpy_helper.from_array(np.ones(1, np.float32), "new"))
    changed.graph.node.append(helper.make_node("Identity", ["new"], ["copied"]))
    dropped = next(c.name for c in model.graph.initializer if is_large(c))
    for node in changed.graph.node:
        node.input[:] = ["new" if name == dropped else name for name in node.input]
    restore_weights(changed, model)
    names = [constant.name for constant in changed.graph.initializer]
    assert names == [c.name for c in model.graph.initializer if c.name != dropped] + ["new"]
    assert [value.name for value in changed.graph.input] == [value.name for value in model.graph.input]


def test_a_graph_in_memory_gives_the_scores_of_its_file_and_its_weights_are_not_serialised(
        tiny: Path, model: onnx.ModelProto) -> None:
    bundle = open_bundle(tiny)
    audio, _ = bundle.golden()

    def scores(step: OnnxRuntimeStep) -> FloatArray:
        return golden_scores(proof_streams(step, bundle.contract), audio)

    content, weights = split_weights(model)
    assert len(content) < model.ByteSize() - weight_bytes(model) + 200 * len(weights)
    expected = scores(OnnxRuntimeStep(bundle.graph, bundle.contract, bundle.initial_cache()))
    found = scores(step_in_memory(model, bundle.contract, bundle.initial_cache()))
    np.testing.assert_array_equal(found, expected)
