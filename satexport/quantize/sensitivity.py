"""Sensitivity: which layers cost accuracy in int8, and the fewest to leave out.

Each layer is quantised alone, the rest in fp32, and the scores are compared with those of the fp32
graph over chains of chunks, the cache carried. The clips are those of `choosing_set`: none of them
calibrates, where the set has others, and none may gate.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from satexport.audio.clips import clip_hash
from satexport.audio.datasets import LabelledSet
from satexport.backends.onnxruntime.step import OnnxRuntimeStep
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

CHAIN_SECONDS = 60  # of each chain, longer than the cache remembers
CHAINS = 2
QuantizeFn = Callable[[Sequence[str]], Graph]  # layers that stay in float -> graph


@dataclass(frozen=True, kw_only=True)
class Sensitivity:
    """What each layer costs, and what that was found on."""

    report: SensitivityReport
    clip_hashes: tuple[str, ...]   # of the clips that the chains were made of, and more


def measure_sensitivity(source: Bundle, graph: Graph, quantize: QuantizeFn, every: Sequence[str],
                clips: LabelledSet) -> Sensitivity:
    """Quantise one layer of `every` at a time. `graph` is the fp32 graph of `source`, `quantize` makes of
    it a graph whose other layers are int8."""
    sounds, hashes, _ = read_clips(clips.clips, source.contract.sample_rate)
    size, chains = source.contract.hop_samples, []
    for chain in chain_clips(sounds, CHAIN_SECONDS, source.contract.sample_rate):
        chains.append(chain[:len(chain) // size * size])
        if len(chains) == CHAINS:
            break

    def scores(graph: Graph) -> FloatArray:
        streams = _streams(source, graph)
        return np.concatenate([clip_chunks(streams, [chain])[0] for chain in chains])

    with progress("sensitivity", len(every) + 2) as advance:
        expected = scores(graph)
        advance()
        costs = []
        for layer in every:
            others = [other for other in every if other != layer]
            costs.append(LayerCost(layer=layer, differences=compare(expected, scores(quantize(others)))))
            advance()
        together = compare(expected, scores(quantize([])))
    costs.sort(key=lambda cost: -cost.differences.mean)
    report = SensitivityReport(variant=source.contract.variant, clips=clips.name, chains=len(chains),
                               chain_seconds=CHAIN_SECONDS, all=together, layers=tuple(costs))
    return Sensitivity(report=report, clip_hashes=tuple(hashes))


def check_labels(source: Bundle, clips: LabelledSet) -> None:
    """Raise `UsageError` where no mAP can choose: random weights, or no labels that the model knows."""
    if source.contract.has_random_weights:
        why = "random weights have no mAP"
    elif not clips.classes:
        why = f"the clips of {clips.name} have no labels that this model knows"
    else:
        return
    raise UsageError(f"--leave-out auto: {why}. Name the layers: --leave-out 00.fc1.")


@dataclass(frozen=True, kw_only=True)
class LeftOut:
    """Layers that stay in float, and the mAP over the choosing set with so many of them left out."""

    layers: tuple[str, ...]
    tried: list[float]
    fp32_map: float
    clip_hashes: tuple[str, ...]


def fewest_to_leave_out(source: Bundle, graph: Graph, quantize: QuantizeFn, clips: LabelledSet,
                        order: Sequence[str], map_kept: float) -> LeftOut:
    """Leave out the most costly layers, one more at a time, until the mAP over the choosing set is kept.

    `order` has the most costly layer first. The result is the shortest beginning of it that passes.
    Raises `GateError` where not even the graph without any int8 passes.
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
                return LeftOut(layers=tuple(order[:count]), tried=tried, fp32_map=fp32,
                               clip_hashes=tuple(hashes))
            advance()
    raise GateError(f"no number of layers left out keeps {map_kept:.1%} of the mAP {fp32:.4f} on "
                    f"{clips.name}. No bundle was written.")


def _streams(source: Bundle, graph: Graph) -> StreamBatch:
    """Streams over a graph that was made of an export's."""
    step = OnnxRuntimeStep(graph.model.SerializeToString(), source.contract, source.initial_cache())
    return proof_streams(step, source.contract)
