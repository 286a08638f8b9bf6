"""An int8 graph whose layers are chosen: those that a target leaves in float, and as few more as its gate
needs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from typing import Any

from satexport.audio.datasets import LabelledSet
from satexport.bundle.folder import Bundle
from satexport.bundle.target import AUTO, Quantization
from satexport.graph.roles import Graph
from satexport.quantize.calibrate import Sample
from satexport.quantize.int8 import quantize
from satexport.quantize.products import layers, products_with_weights
from satexport.quantize.ranges import find_ranges
from satexport.quantize.records import SensitivityReport
from satexport.quantize.sensitivity import LeftOut, fewest_to_leave_out, measure_sensitivity


@dataclass(frozen=True, kw_only=True)
class Quantized:
    """An int8 graph and how it came about."""

    graph: Graph
    left_out: tuple[str, ...]            # layers that stay in float, sorted
    products: int                        # with a weight, in int8
    clip_hashes: frozenset[str]          # SHA-256 of the clips that choices were made on: they may not gate
    sensitivity: SensitivityReport | None  # what each layer costs, where it was asked for or needed
    facts: Mapping[str, Any]             # what calibration.json says of it


def choose_and_quantize(source: Bundle, graph: Graph, quantization: Quantization,
                        samples: Sequence[Sample], *, clips: LabelledSet | None = None,
                        map_kept: float = 1.0) -> Quantized:
    """Quantize the fp32 graph of `source` with ranges from `samples`.

    With `clips` the cost of each layer is found on them; where AUTO is among the layers to leave out, as few
    of the most costly ones stay in float as keep `map_kept` of the fp32 graph's mAP over them. Raises
    `GateError` where no number of layers does, `UsageError` for a layer that does not exist.
    """
    ranges = find_ranges(graph, quantization, samples)
    make_int8 = partial(quantize, graph, quantization, ranges)
    every = layers(graph, quantization)
    left_out = [name for name in quantization.leave_out if name != AUTO]
    chosen_on: set[str] = set()
    costs, fewest = None, None
    if clips is not None:
        costs = measure_sensitivity(source, graph, make_int8, every, clips)
        chosen_on |= set(costs.clip_hashes)
        if AUTO in quantization.leave_out:
            fewest = fewest_to_leave_out(source, graph, lambda names: make_int8([*left_out, *names]), clips,
                                         [cost.layer for cost in costs.report.layers
                                          if cost.layer not in left_out], map_kept)
            left_out += fewest.layers
            chosen_on |= set(fewest.clip_hashes)
    return Quantized(
        graph=make_int8(left_out), left_out=tuple(sorted(left_out)),
        products=products_with_weights(graph, quantization, left_out), clip_hashes=frozenset(chosen_on),
        sensitivity=costs.report if costs else None,
        facts={"quantization": asdict(quantization), "float": sorted(left_out),
               "int8": [name for name in every if name not in left_out],
               "ranges": {x: list(ranges[x]) for x in sorted(ranges)}, "auto": _auto_facts(fewest)})


def _auto_facts(fewest: LeftOut | None) -> dict[str, Any] | None:
    return {"map": fewest.tried, "fp32_map": fewest.fp32_map} if fewest else None
