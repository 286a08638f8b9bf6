"""Sensitivity: the most costly layers are found, shown and left in float, and no more than necessary."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import onnx
import pytest

from satexport.audio.datasets import LabelledSet
from satexport.bundle.folder import Bundle, open_bundle
from satexport.bundle.target import Quantization
from satexport.errors import GateError, UsageError
from satexport.graph.roles import Graph
from satexport.quantize import sensitivity as sensitivity_module
from satexport.quantize.calibrate import calibrate
from satexport.quantize.calibration_set import choosing_set
from satexport.quantize.int8 import quantize
from satexport.quantize.products import find_layers, find_products
from satexport.quantize.ranges import find_ranges
from satexport.quantize.sensitivity import (
    Sensitivity,
    check_labels,
    find_fewest_float_layers,
    measure_sensitivity,
)
from tests.bundle.copies import graph_of, output_with
from tests.commands.calls import call
from tests.tiny import DEPTH, FEW


class Spoiled:
    """A graph, and a quantiser that ruins two of its layers, one in the last block and one in the middle,
    with ranges that are far too wide."""

    def __init__(self, path: Path) -> None:
        self.source: Bundle = open_bundle(path)
        self.graph = graph_of(self.source)
        wanted = Quantization()
        self.every = find_layers(self.graph, wanted)
        last = len(self.every) // 5 - 1
        self.ruined = (f"{last:02}.fc2", f"{last // 2:02}.proj")
        self._ranges = find_ranges(self.graph, wanted, calibrate(self.source, FEW).samples)
        inputs = {product.layer: product.node.input[0] for product in find_products(self.graph, wanted)}
        for layer, times in zip(self.ruined, (400, 200), strict=True):
            low, high = self._ranges[inputs[layer]]
            self._ranges[inputs[layer]] = (low * times, high * times)
        self.clips: LabelledSet = choosing_set(FEW, None, self.source.labels)

    def quantize(self, leave_out: Sequence[str]) -> Graph:
        return quantize(self.graph, Quantization(), self._ranges, leave_out)


@pytest.fixture(scope="module")
def spoiled(tiny: Path) -> Spoiled:
    return Spoiled(tiny)


@pytest.fixture(scope="module")
def trained(demo: Path) -> Spoiled:
    """The same with a trained model, for choices by mAP."""
    return Spoiled(demo)


@pytest.fixture(scope="module")
def found(spoiled: Spoiled) -> Sensitivity:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sensitivity_module, "CHAINS", 1)
        patch.setattr(sensitivity_module, "CHAIN_SECONDS", 10)
        return measure_sensitivity(spoiled.source, spoiled.graph, spoiled.quantize, spoiled.every,
                                   spoiled.clips)


def test_the_layers_that_cost_most_come_first(spoiled: Spoiled, found: Sensitivity) -> None:
    layers = [cost.layer for cost in found.report.layers]
    assert set(layers[:2]) == set(spoiled.ruined)
    assert set(layers) == set(spoiled.every)
    means = [cost.differences.mean for cost in found.report.layers]
    assert means == sorted(means, reverse=True)
    assert means[1] > 3 * means[2]
    assert found.report.all.mean > means[2]


def order_of(trained: Spoiled) -> list[str]:
    """The spoiled layers first."""
    return [*trained.ruined, *(name for name in trained.every if name not in trained.ruined)]


def test_as_few_as_the_map_needs_are_left_out(trained: Spoiled) -> None:
    order = order_of(trained)
    fewest = find_fewest_float_layers(trained.source, trained.graph, trained.quantize, trained.clips, order,
                                      0.99)
    assert 0 < len(fewest.layers) <= 2
    assert fewest.layers == tuple(order[:len(fewest.layers)])
    assert fewest.tried[-1] >= 0.99 * fewest.fp32_map > max(fewest.tried[:-1])


@pytest.mark.long
def test_nothing_is_left_out_where_the_map_is_kept_anyway(trained: Spoiled) -> None:
    order = order_of(trained)
    fewest = find_fewest_float_layers(trained.source, trained.graph, trained.quantize, trained.clips, order,
                                      0.01)
    assert (fewest.layers, len(fewest.tried)) == ((), 1)


@pytest.mark.long
def test_a_map_that_cannot_be_kept_is_an_error(trained: Spoiled) -> None:
    with pytest.raises(GateError, match=r"no number of layers in float keeps 200\.0%"):
        find_fewest_float_layers(
            trained.source, trained.graph, trained.quantize, trained.clips, trained.ruined[:1], 2.0)


def test_clips_without_labels_choose_nothing(trained: Spoiled) -> None:
    clips = LabelledSet(name="mine", clips=trained.clips.clips, classes=(), origin={})
    with pytest.raises(UsageError, match=r"--leave-out auto: the clips of mine have no labels"):
        check_labels(trained.source, clips)
    check_labels(trained.source, trained.clips)


def test_clips_that_choose_are_others_than_those_that_calibrate_and_those_that_gate(
        spoiled: Spoiled, found: Sensitivity) -> None:
    from satexport.audio.clips import clip_hash
    from satexport.audio.datasets import load_set

    calibrated = set(calibrate(spoiled.source, FEW).clip_hashes)
    gate = {clip_hash(clip.read(16_000)) for clip in load_set("synthetic", spoiled.source.labels).clips}
    assert len(found.clip_hashes) > 20
    chosen_on = {clip_hash(clip.read(16_000)) for clip in spoiled.clips.clips}
    assert set(found.clip_hashes) <= chosen_on
    assert not chosen_on & gate
    assert not set(found.clip_hashes) & (calibrated | gate)


def test_the_command_draws_bars_and_saves_json(
        tiny: Path, quick: tuple[object, ...], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sensitivity_module, "CHAINS", 1)
    monkeypatch.setattr(sensitivity_module, "CHAIN_SECONDS", 4)
    output = output_with(tiny, tmp_path)
    result = call("cpu", "--int8", "--sensitivity", "--leave-out", "01.q", "--output", output, *quick)
    assert result.code == 0, result.err
    assert "█" in result.out
    assert "In float: 01.q." in result.out
    path = output / tiny.parent.name / "cpu-int8"
    report = json.loads((path / "reports" / "sensitivity.json").read_bytes())
    assert len(report["layers"]) == 5 * DEPTH
    means = [cost["differences"]["mean"] for cost in report["layers"]]
    assert means[0] >= means[-1] > 0
    made = json.loads((path / "calibration.json").read_bytes())
    assert (made["float"], len(made["int8"]), made["auto"]) == (["01.q"], 5 * DEPTH - 1, None)


@pytest.mark.long
def test_the_command_draws_bars_saves_json_and_leaves_out_what_auto_finds(
        demo: Path, few_clips: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sensitivity_module, "CHAIN_SECONDS", 10)
    output = output_with(demo, tmp_path)
    result = call("cpu", "--int8", "--sensitivity", "--leave-out", "auto", "--leave-out", "03.q",
                  "--output", output, "--no-measure", "--minutes", 0.1, "--data", few_clips)
    assert result.code == 0, result.err
    assert "█" in result.out
    assert "In float: 03.q." in result.out  # the demo keeps its mAP with all others in int8
    path = output / "sat-t-2s" / "cpu-int8"
    report = json.loads((path / "reports" / "sensitivity.json").read_bytes())
    assert len(report["layers"]) == 60
    means = [cost["differences"]["mean"] for cost in report["layers"]]
    assert means[0] >= means[-1] > 0
    made = json.loads((path / "calibration.json").read_bytes())
    assert (made["float"], len(made["int8"])) == (["03.q"], 59)
    assert made["auto"]["map"][0] >= 0.99 * made["auto"]["fp32_map"]
    initializers = {i.name for i in onnx.load(path / "model.onnx").graph.initializer}
    assert "03.q.weight" in initializers
    assert np.all([f"{name}.int8" in initializers for name in made["int8"]])
