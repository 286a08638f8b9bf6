"""The precisions of an engine's layers, from the JSON of TensorRT's engine inspector."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from typing import Any, NamedTuple

FUSED = "fused"
FUSED_LAYERS = ("foreignnode", "myelin", "kgen")   # types of opaque fused layers
CONVERSIONS = ("reformat", "quantize", "cast", "constant")  # layers that only convert between precisions
DATATYPES = {"int8": "i8", "bfloat16": "bf16", "bf16": "bf16", "half": "f16", "float16": "f16", "fp16": "f16",
             "float": "f32", "fp32": "f32", "int32": "i32", "int64": "i64", "bool": "bool"}


class Int8Layers(NamedTuple):
    """The number of layers with int8 inputs."""

    known: int
    may_be_more: bool    # some layers are opaque fused layers, or no layer is listed


def precisions(information: Mapping[str, Any]) -> dict[str, dict[str, int]]:
    """Count the layers of an engine by the precision of their outputs. `information` is the inspector's JSON;
    returns {} if the engine was built without detailed profiling verbosity."""
    counts: Counter[str] = Counter()
    for layer in information.get("Layers", []):
        if not isinstance(layer, dict):
            return {}
        counts.update({FUSED} if _is_fused(layer) else _precisions(layer, "Outputs"))
    return {"layers": dict(counts)} if counts else {}


def int8_layers(information: Mapping[str, Any]) -> Int8Layers:
    """Count the layers with int8 inputs that do more than convert, from the inspector's JSON."""
    layers = [layer for layer in information.get("Layers", []) if isinstance(layer, dict)]
    known = sum("i8" in _precisions(layer, "Inputs") for layer in layers
                if not any(word in str(layer.get("LayerType", "")).lower() for word in CONVERSIONS))
    return Int8Layers(known, not layers or any(map(_is_fused, layers)))


def _is_fused(layer: Mapping[str, Any]) -> bool:
    return str(layer.get("LayerType", "")).lower() in FUSED_LAYERS


def _precisions(layer: Mapping[str, Any], side: str) -> set[str]:
    """The precisions of a layer's "Inputs" or "Outputs". TensorRT 10 has them under "Format/Datatype",
    TensorRT 11 has a separate key for the datatype."""
    texts = [str(value).lower() for tensor in layer.get(side, []) for key, value in tensor.items()
             if "datatype" in key.lower()]
    return {next((short for word, short in DATATYPES.items() if word in text), text) for text in texts}
