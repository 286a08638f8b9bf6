"""Quantise a graph except for the layers that stay in float: those that the target names, and as few more as
its mAP gate needs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from typing import Any

from satexport.audio.datasets import LabelledSet
from satexport.bundle.folder import Bundle
from satexport.bundle.target import AUTO, Quantization
from satexport.graph.roles import Graph
from satexport.quantize.equalize import equalize
from satexport.quantize.factors import Ranges
from satexport.quantize.int8 import quantize
from satexport.quantize.observe import Sample, samples_together
from satexport.quantize.products import count_weight_products, find_layers
from satexport.quantize.ranges import find_ranges
from satexport.quantize.records import SensitivityReport
from satexport.quantize.sensitivity import FloatLayers, find_fewest_float_layers, measure_sensitivity


@dataclass(frozen=True, kw_only=True)
class Quantized:
    """An int8 graph and how it was made."""

    graph: Graph
    left_out: tuple[str, ...]            # layers that stay in float, sorted
    products: int                        # number of products with a weight that are int8
    clip_hashes: frozenset[str]          # SHA-256 of the clips that layers were chosen on; they may not gate
    sensitivity: SensitivityReport | None  # the cost of each layer, if it was measured
    facts: Mapping[str, Any]             # for calibration.json


def choose_and_quantize(source: Bundle, graph: Graph, quantization: Quantization,
                        samples: Sequence[Sample], *, ranges: Ranges | None = None,
                        clips: LabelledSet | None = None, map_kept: float = 1.0) -> Quantized:
    """Quantise the fp32 graph of `source` with ranges from `samples`, or with those that are known.

    With `clips`, the cost of each layer is measured on them. If AUTO is among the layers to leave out, the
    most costly layers stay in float, as few as necessary to keep `map_kept` times the fp32 graph's mAP on
    `clips`. Raises `GateError` if no number of layers is enough, `UsageError` for a layer that does not
    exist.
    """
    before, graph = graph, equalize(graph, quantization, samples)
    if not ranges or graph is not before:
        ranges = find_ranges(graph, quantization, samples, samples_together(source.contract))
    make_int8 = partial(quantize, graph, quantization, ranges)
    layers = find_layers(graph, quantization)
    left_out = [name for name in quantization.leave_out if name != AUTO]
    clip_hashes: set[str] = set()
    costs, fewest = None, None
    if clips is not None:
        costs = measure_sensitivity(source, graph, make_int8, layers, clips)
        clip_hashes |= set(costs.clip_hashes)
        if AUTO in quantization.leave_out:
            order = [cost.layer for cost in costs.report.layers if cost.layer not in left_out]
            fewest = find_fewest_float_layers(
                source, graph, lambda names: make_int8([*left_out, *names]), clips, order, map_kept)
            left_out += fewest.layers
            clip_hashes |= set(fewest.clip_hashes)
    return Quantized(
        graph=make_int8(left_out), left_out=tuple(sorted(left_out)),
        products=count_weight_products(graph, quantization, left_out), clip_hashes=frozenset(clip_hashes),
        sensitivity=costs.report if costs else None,
        facts={"quantization": asdict(quantization), "float": sorted(left_out),
               "int8": [name for name in layers if name not in left_out],
               "ranges": {x: list(ranges[x]) for x in sorted(ranges)}, "auto": _auto_facts(fewest)})


def _auto_facts(fewest: FloatLayers | None) -> dict[str, Any] | None:
    return {"map": fewest.tried, "fp32_map": fewest.fp32_map} if fewest else None
