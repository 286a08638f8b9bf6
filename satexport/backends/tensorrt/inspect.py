"""What is found about an engine on the board: speed, precisions, and whether its gates pass."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Mapping
from typing import Any

import numpy as np

from satexport.backends.tensorrt.settings import TensorRtSettings
from satexport.bundle.folder import GRAPH_SCORES, Bundle
from satexport.bundle.gates import Gate
from satexport.step import FloatArray, Step
from satexport.tagging.tagger import Tagger

WARM_UP, STEPS, PAUSED = 20, 200, 20
PAUSE = 0.25   # s
FUSED = "fused"
FUSED_LAYERS = ("foreignnode", "myelin", "kgen")   # types of layers that TensorRT does not look into
CONVERSIONS = ("reformat", "quantize", "cast", "constant")  # layers that only change a precision
DATATYPES = {"int8": "i8", "bfloat16": "bf16", "bf16": "bf16", "half": "f16", "float16": "f16", "fp16": "f16",
             "float": "f32", "fp32": "f32", "int32": "i32", "int64": "i64", "bool": "bool"}
DEFINITIONS = {
    "burst": f"{STEPS} single steps one after the other, audio in host memory to scores in host memory, "
             f"{WARM_UP} before them not counted",
    "paused": f"{PAUSED} single steps, each after {PAUSE} s",
    "device": "device memory that is free before the engine is loaded, minus that which is free when it has "
              "run; on a Jetson the memory is the host's, too",
    "layers": "what the engine inspector says of each layer's outputs; `fused` are layers that TensorRT made "
              "of many and does not look into. The network is strongly typed: precisions are the graph's",
}


def graph_gate(bundle: Bundle, scores: FloatArray, precision: str) -> Gate:
    """Does the engine compute what its graph says, as ONNX Runtime computed it on the workstation? Scores
    [N, chunks, classes] of the golden chunks."""
    expected = bundle.arrays(GRAPH_SCORES, [precision])[0]
    limit = TensorRtSettings.of(bundle.target).max_graph_difference
    gap = float(np.abs(scores - expected).max())
    return Gate("largest score difference from its graph", "passed" if gap <= limit else "failed", gap, limit,
                f"{gap:.1e}, at most {limit:g}")


def latencies(tagger: Tagger) -> dict[str, dict[str, float]]:
    """A step in bursts and after pauses, ms."""
    contract = tagger.contract
    noise = 0.1 * np.random.default_rng(0).standard_normal(contract.input.shape).astype(np.float32)
    step: Step = tagger.step
    cache = step.initial_cache(contract.options.streams)
    result = {}
    for name, count, pause in (("burst", STEPS, 0.0), ("paused", PAUSED, PAUSE)):
        times = []
        for number in range(count + (0 if pause else WARM_UP)):
            time.sleep(pause)
            start = time.perf_counter()
            _, cache = step(noise, cache)
            if pause or number >= WARM_UP:
                times.append(1000 * (time.perf_counter() - start))
        median, p90, p99 = np.percentile(times, (50, 90, 99)).tolist()
        result[name] = {"median_ms": median, "p90_ms": p90, "p99_ms": p99, "steps": count}
    return result


def precisions(information: Mapping[str, Any]) -> dict[str, dict[str, int]]:
    """How many layers of an engine give which precision, of the inspector's JSON; {} where the engine was
    built without the details."""
    counts: Counter[str] = Counter()
    for layer in information.get("Layers", []):
        if not isinstance(layer, dict):
            return {}
        counts.update({FUSED} if _is_fused(layer) else _precisions(layer, "Outputs"))
    return {"layers": dict(counts)} if counts else {}


def _is_fused(layer: Mapping[str, Any]) -> bool:
    return str(layer.get("LayerType", "")).lower() in FUSED_LAYERS


def _precisions(layer: Mapping[str, Any], side: str) -> set[str]:
    """The precisions of a layer's "Inputs" or "Outputs". TensorRT 10 calls the key "Format/Datatype", 11 has
    one for the datatype alone."""
    texts = [str(value).lower() for tensor in layer.get(side, []) for key, value in tensor.items()
             if "datatype" in key.lower()]
    return {next((short for word, short in DATATYPES.items() if word in text), text) for text in texts}


def int8_gates(bundle: Bundle, precision: str, information: Mapping[str, Any]) -> list[Gate]:
    """Do the products take int8? TensorRT may merge those of one input, so half of them is enough; where it
    fused more than it shows, nobody can tell."""
    if precision != "int8":
        return []
    limit = bundle.int8_layers() // 2
    layers = [layer for layer in information.get("Layers", []) if isinstance(layer, dict)]
    count = sum("i8" in _precisions(layer, "Inputs") for layer in layers
                if not any(word in str(layer.get("LayerType", "")).lower() for word in CONVERSIONS))
    hidden = not layers or any(map(_is_fused, layers))
    status = "passed" if count >= limit else "skipped" if hidden else "failed"
    why = "; others are fused, and TensorRT does not look into them" if status == "skipped" else ""
    return [Gate("int8 is delivered", status, count, limit,
                 f"{count} layers take int8, at least {limit}{why}")]
