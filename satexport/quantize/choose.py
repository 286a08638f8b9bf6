"""Which layers become int8."""

from __future__ import annotations

from dataclasses import asdict
from functools import partial
from typing import Any

from satexport.bundle.folder import Bundle
from satexport.bundle.target import AUTO, Target
from satexport.graph.roles import Graph
from satexport.pipeline.plan import Compiled, Wanted
from satexport.quantize.calibrate import Calibration
from satexport.quantize.calibration_set import choosing_set
from satexport.quantize.int8 import quantize
from satexport.quantize.products import layers, products_with_weights
from satexport.quantize.ranges import find_ranges
from satexport.quantize.sensitivity import LeftOut, fewest_to_leave_out, sensitivity


def _quantised(source: Bundle, graph: Graph, target: Target, wanted: Wanted, found: Calibration,
               made: Compiled) -> tuple[Graph, set[str], dict[str, Any]]:
    """The int8 graph, hashes of the clips that choices were made on, and what calibration.json says."""
    quantization = target.quantization
    assert quantization
    ranges = find_ranges(graph, quantization, found.samples)
    quantise = partial(quantize, graph, quantization, ranges)
    left_out = [name for name in quantization.leave_out if name != AUTO]
    chosen_on: set[str] = set()
    fewest: LeftOut | None = None
    if wanted.sensitivity or AUTO in quantization.leave_out:
        clips = choosing_set(wanted.calibration, wanted.recordings, source.labels)
        costs = sensitivity(source, graph, quantise, layers(graph, quantization), clips)
        made.sensitivity = costs.report() | {"variant": source.contract.variant, "set": clips.name}
        chosen_on |= set(costs.clip_hashes)
        if AUTO in quantization.leave_out:
            fewest = fewest_to_leave_out(source, graph, lambda names: quantise([*left_out, *names]), clips,
                                         [name for name in costs.layers if name not in left_out],
                                         target.gates.map_kept)
            left_out += fewest.layers
            chosen_on |= set(fewest.clip_hashes)
    made.left_out = tuple(sorted(left_out))
    made.products = products_with_weights(graph, quantization, left_out)
    return quantise(left_out), chosen_on, {
        "quantization": asdict(quantization), "float": sorted(left_out),
        "int8": [name for name in layers(graph, quantization) if name not in left_out],
        "ranges": {x: list(ranges[x]) for x in sorted(ranges)},
        "auto": {"map": fewest.tried, "fp32_map": fewest.fp32_map} if fewest else None}
