"""Sensitivity: how much accuracy each layer costs in int8, and the fewest layers to leave in float.

One layer at a time is quantised while the rest stays in fp32, and the scores are compared with those of the
fp32 graph over long streams. The clips are those of `choosing_set`. If possible they differ from the clips
for calibration, and they may not be used for gates.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from satexport.audio.clips import clip_hash
from satexport.audio.datasets import LabelledSet
from satexport.backends.onnxruntime.in_memory import step_in_memory
from satexport.bundle.folder import Bundle
from satexport.errors import GateError, UsageError
from satexport.graph.roles import Graph
from satexport.parity.differences import compare
from satexport.parity.golden import proof_streams
from satexport.parity.metrics import average_precisions
from satexport.progress import progress
from satexport.quantize.calibrate import chain_clips, is_silent, read_clips
from satexport.quantize.records import LayerCost, SensitivityReport
from satexport.step import FloatArray
from satexport.tagging.stream import StreamBatch, clip_chunks

CHAIN_SECONDS = 60  # of a stream: longer than the history in a cache or a window
CHAINS = 2
QuantizeFn = Callable[[Sequence[str]], Graph]  # layers that stay in float -> graph


@dataclass(frozen=True, kw_only=True)
class Sensitivity:
    """The cost of each layer in int8, and what it was measured on."""

    report: SensitivityReport
    clip_hashes: tuple[str, ...]    # of the clips that were read, including all that were used


def measure_sensitivity(source: Bundle, graph: Graph, quantize: QuantizeFn, layers: Sequence[str],
                        clips: LabelledSet) -> Sensitivity:
    """Measure each of the layers, which are all that can be quantised. `graph` is the fp32 graph of `source`;
    `quantize` takes the layers that stay in float and returns the int8 graph."""
    sounds, hashes, _ = read_clips(clips.clips, source.contract.sample_rate)
    size, chains = source.contract.hop_samples, []
    for chain in chain_clips(sounds, CHAIN_SECONDS, source.contract.sample_rate):
        chains.append(chain[:len(chain) // size * size])
        if len(chains) == CHAINS:
            break

    def scores(graph: Graph) -> FloatArray:
        streams = _streams(source, graph)
        return np.concatenate([clip_chunks(streams, [chain])[0] for chain in chains])

    with progress("sensitivity", len(layers) + 2) as advance:
        expected = scores(graph)
        advance()
        costs = []
        for layer in layers:
            others = [other for other in layers if other != layer]
            costs.append(LayerCost(layer=layer, differences=compare(expected, scores(quantize(others)))))
            advance()
        together = compare(expected, scores(quantize([])))
    costs.sort(key=lambda cost: -cost.differences.mean)
    report = SensitivityReport(variant=source.contract.variant, clips=clips.name, chains=len(chains),
                               chain_seconds=CHAIN_SECONDS, all=together, layers=tuple(costs))
    return Sensitivity(report=report, clip_hashes=tuple(hashes))


def check_labels(source: Bundle, clips: LabelledSet) -> None:
    """Raise `UsageError` if layers cannot be chosen by mAP, because the weights are random or the clips have
    no labels of the model."""
    if source.contract.has_random_weights:
        why = "random weights have no mAP"
    elif not clips.classes:
        why = f"the clips of {clips.name} have no labels of this model"
    else:
        return
    raise UsageError(f"--leave-out auto: {why}. Name the layers instead: --leave-out 00.fc1.")


@dataclass(frozen=True, kw_only=True)
class FloatLayers:
    """The chosen layers that stay in float, and the mAP on the clips."""

    layers: tuple[str, ...]
    tried: list[float]              # mAP with 0, 1, 2 ... layers in float
    fp32_map: float                 # of the fp32 graph
    clip_hashes: tuple[str, ...]


def find_fewest_float_layers(source: Bundle, graph: Graph, quantize: QuantizeFn, clips: LabelledSet,
                             order: Sequence[str], map_kept: float) -> FloatLayers:
    """Leave one more layer in float at a time until the mAP on `clips` is at least `map_kept` times that of
    the fp32 graph.

    `order` has the most costly layer first; the result is its shortest prefix that passes. Raises `GateError`
    if not even all of `order` is enough.
    """
    audios = [clip.read(source.contract.sample_rate) for clip in clips.clips]
    hashes = [clip_hash(audio) for audio in audios if not is_silent(audio)]
    truth = clips.truth(source.labels)

    def mean_average_precision(graph: Graph) -> float:
        streams = _streams(source, graph)
        rows = [clip_chunks(streams, [audio])[0].mean(0) for audio in audios]
        return float(np.mean(list(average_precisions(truth, np.stack(rows), source.labels).values())))

    fp32 = mean_average_precision(graph)
    tried: list[float] = []
    with progress("leave out", len(order)) as advance:
        for count in range(len(order) + 1):
            tried.append(mean_average_precision(quantize(order[:count])))
            if tried[-1] >= map_kept * fp32:
                return FloatLayers(layers=tuple(order[:count]), tried=tried, fp32_map=fp32,
                                   clip_hashes=tuple(hashes))
            advance()
    raise GateError(f"no number of layers in float keeps {map_kept:.1%} of the mAP {fp32:.4f} on "
                    f"{clips.name}. No bundle was written.")


def _streams(source: Bundle, graph: Graph) -> StreamBatch:
    """Return streams that run a graph made from that of `source`."""
    step = step_in_memory(graph.model, source.contract, source.initial_cache())
    return proof_streams(step, source.contract)
