"""The ranges of a calibration: found in its own steps, several streams at a time, with the values that each
stream has by itself."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from onnx import TensorProto, helper

from satexport.bundle.contract import ANY, GraphOptions
from satexport.bundle.folder import open_bundle
from satexport.bundle.target import Quantization
from satexport.frontends.prepare import model_input
from satexport.models.checkpoint import load_checkpoint
from satexport.models.families import FAMILIES, find_family, find_variant, make_reference
from satexport.quantize import observe
from satexport.quantize.calibrate import calibrate
from satexport.quantize.factors import Ranges
from satexport.quantize.observe import Observer, Sample, join_samples, samples_together
from satexport.quantize.ranges import find_ranges, find_tensors, ranges_of
from tests.bundle.copies import graph_of
from tests.models.stateless import contract_of
from tests.tiny import FEW, SAT

TINY = [SAT, "sat-s-48x3x2", "ast-48x3x2x96", "passt-s16-48x3x2", "htsat-8x1-2-2-4x2-2-2-2",
        "beats-embed32-48x3x2x96", "mn01"]
EVERY = Quantization(operators=("patch", "conv", "depthwise", "linear", "attention", "head"))


def assert_equal(found: Ranges, expected: Ranges) -> None:
    """Each range is the expected one to float rounding."""
    assert found.keys() == expected.keys()
    for tensor, bounds in expected.items():
        np.testing.assert_allclose(found[tensor], bounds, rtol=0, atol=1e-5 * np.ptp((0, *bounds)))


@pytest.mark.parametrize("symmetric", [False, True])
def test_the_steps_of_a_calibration_show_the_ranges_of_its_samples(tiny: Path, symmetric: bool) -> None:
    bundle, graph = open_bundle(tiny), graph_of(open_bundle(tiny))
    quantization = Quantization(symmetric=symmetric)
    observer = Observer(graph.model, find_tensors(graph, quantization))
    samples = calibrate(bundle, FEW, observer=observer).samples
    found = ranges_of(observer, quantization)
    for together in (1, 5):
        assert_equal(found, find_ranges(graph, quantization, samples, together))
    assert all(low == -high for low, high in found.values()) == symmetric


@pytest.mark.parametrize("name", ["tiny", "tiny_lanes", *(
    pytest.param(name, marks=pytest.mark.long) for name in ("tiny_three", "random_vit"))])
def test_streams_side_by_side_have_the_samples_of_each_by_itself(
        name: str, request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    bundle = open_bundle(request.getfixturevalue(name))
    together = calibrate(bundle, FEW)
    monkeypatch.setattr(observe, "TOGETHER", 1)
    alone = calibrate(bundle, FEW)
    assert together.origin == alone.origin
    for sample, expected in zip(together.samples, alone.samples, strict=True):
        assert sample.keys() == expected.keys()
        for tensor, array in expected.items():
            np.testing.assert_allclose(sample[tensor], array, rtol=0, atol=1e-5 * np.abs(array).max())


@pytest.mark.parametrize(("name", "streams", "expected"), [
    ("tiny", 1, 8), ("tiny", ANY, 8), ("tiny", 3, 2), ("tiny", 9, 1), ("random_window", 1, 1)])
def test_a_pass_has_eight_streams_and_sixteen_seconds_of_audio_at_most(
        name: str, streams: int, expected: int, request: pytest.FixtureRequest) -> None:
    contract = open_bundle(request.getfixturevalue(name)).contract
    options = replace(contract.options, streams=streams)
    assert samples_together(replace(contract, options=options)) == expected


def test_every_family_is_observed() -> None:
    assert {find_variant(model, 1).family for model in TINY} == set(FAMILIES)


@pytest.mark.parametrize(("options", "opset"), [
    (GraphOptions(), 17), (GraphOptions(input="mel", streams=2), 20)], ids=str)
@pytest.mark.parametrize("model", TINY)
def test_a_pass_of_several_samples_notes_those_that_are_chosen(
        model: str, options: GraphOptions, opset: int) -> None:
    checkpoint = load_checkpoint("random", find_variant(model, 1))
    contract = contract_of(checkpoint.variant, options, opset)
    silence = make_reference(checkpoint).initial_cache(1)
    *_, last = find_family(contract.family).rewrites(checkpoint, contract, silence)
    random = np.random.default_rng(0)

    def draw(level: float) -> Sample:
        noise = level * random.standard_normal((options.streams, contract.window_samples), np.float32)
        caches = {spec.name: level * random.standard_normal(spec.shape, np.float32)
                  for spec in contract.cache_in}
        return {contract.input.name: model_input(contract, noise), **caches}

    samples, noted = [draw(level) for level in (0.1, 0.5, 0.02)], [True, False, True]
    tensors = find_tensors(last.graph, EVERY)
    several, single = (Observer(last.graph.model, tensors) for _ in range(2))
    found = several.run(join_samples(samples), noted)
    each = [single.run(sample, [is_noted]) for sample, is_noted in zip(samples, noted, strict=True)]
    for name, array in found.items():
        expected = np.concatenate([outputs[name] for outputs in each])
        np.testing.assert_allclose(array, expected, rtol=0, atol=1e-5 * np.abs(expected).max())
    assert_equal(several.ranges, single.ranges)


def test_a_range_is_the_least_and_the_largest_value_of_its_tensor() -> None:
    x, y = (helper.make_tensor_value_info(name, TensorProto.FLOAT, [1, 4]) for name in "xy")
    graph = helper.make_graph([helper.make_node("Exp", ["x"], ["y"])], "exp", [x], [y])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=9)
    observer = Observer(model, {"x", "y"})
    sounds = np.array([[[-4, -3, -2, -1]], [[-9, -8, -7, -6]], [[5, 6, 7, 8]]], np.float32)
    observer.run({"x": np.concatenate(sounds)}, [True, True, False])
    assert_equal(observer.ranges, {"x": (-9, -1), "y": (np.exp(-9), np.exp(-1))})
    assert observer.ranges["y"][0] > 0 > observer.ranges["x"][1]
