"""The ranges of a calibration: found in its own steps, with the same values as in a pass of their own."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from satexport.bundle.folder import open_bundle
from satexport.bundle.target import Quantization
from satexport.quantize.calibrate import calibrate
from satexport.quantize.observe import Observer
from satexport.quantize.ranges import find_ranges, find_tensors, ranges_of
from tests.bundle.copies import graph_of
from tests.tiny import FEW


@pytest.mark.parametrize("symmetric", [False, True])
def test_the_steps_of_a_calibration_show_the_ranges_of_its_samples(tiny: Path, symmetric: bool) -> None:
    bundle, graph = open_bundle(tiny), graph_of(open_bundle(tiny))
    quantization = Quantization(symmetric=symmetric)
    observer = Observer(graph.model, find_tensors(graph, quantization))
    samples = calibrate(bundle, FEW, observer=observer).samples
    found = ranges_of(observer, quantization)
    assert found == find_ranges(graph, quantization, samples)
    assert all(low == -high for low, high in found.values()) == symmetric


def test_only_noted_steps_count(tiny: Path) -> None:
    bundle, graph = open_bundle(tiny), graph_of(open_bundle(tiny))
    names = [spec.name for spec in (bundle.contract.input, *bundle.contract.cache_in)]
    caches = list(bundle.initial_cache())
    quiet, loud = (dict(zip(names, (np.full(bundle.contract.input.shape, level, np.float32), *caches),
                            strict=True)) for level in (0.0, 0.5))
    observer = Observer(graph.model, [bundle.contract.input.name])
    assert observer.run(quiet).keys() == observer.run(loud, [False]).keys()
    assert observer.ranges == {bundle.contract.input.name: (0.0, 0.0)}
    observer.run(loud)
    assert observer.ranges == {bundle.contract.input.name: (0.0, 0.5)}
