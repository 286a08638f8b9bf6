"""Convert a state dict to the graph's weights."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping

import numpy as np
from numpy.typing import NDArray

from satexport.graph.writer import Array, Weights
from satexport.models.efficientat.variants import BLOCKS, MEAN, SCALE, Variant

LAST = "16"  # the convolution after the blocks


def convolutions(variant: Variant) -> Iterator[tuple[str, str]]:
    """Yield each convolution of the features by its name in the graph, "05.expand", and the prefix of its
    keys in a state dict, "features.5.block.0"."""
    yield "00.conv", "features.0"
    for number, block in zip(BLOCKS, variant.blocks, strict=True):
        parts = (["expand"] if block.expands else []) + ["depthwise"]
        parts += (["squeeze"] if block.bottleneck else []) + ["project"]
        for place, part in enumerate(parts):
            if part != "squeeze":
                yield f"{number:02d}.{part}", f"features.{number}.block.{place}"
    yield f"{LAST}.conv", f"features.{LAST}"


def squeezes(variant: Variant) -> Iterator[tuple[str, str]]:
    """Yield the number of each block with squeeze-and-excitation, "05", and the prefix of its keys."""
    for number, block in zip(BLOCKS, variant.blocks, strict=True):
        if block.bottleneck:
            yield f"{number:02d}", f"features.{number}.block.{1 + block.expands}.conc_se_layers.0"


def graph_weights(variant: Variant, state: Mapping[str, NDArray[np.float32]]) -> Weights:
    """Return the published weights as the graph uses them, before any fold:

    mel.{shift,scale} [] (of the log-mel), mel.raised [] (the shift that the front end contains),
    00.conv, NN.expand, NN.depthwise, NN.project, 16.conv: .weight [out, in, rows, columns] and
    .norm.{scale,shift,mean,variance} [out] (batch norm), in place of which folds have .bias [out],
    NN.squeeze, NN.excite, head.hidden, head: .weight [in, out] and .bias [out]; the head "fc" has no
    head.hidden, and a head.norm.
    """
    get: Callable[[str], Array] = lambda key: np.asarray(state[key], np.float64)  # noqa: E731
    weights: Weights = {"mel.shift": np.asarray(-MEAN), "mel.scale": np.asarray(1 / SCALE),
                        "mel.raised": np.asarray(0.0)}
    for name, key in convolutions(variant):
        weights |= {f"{name}.weight": get(f"{key}.0.weight")} | _norm(name, get, f"{key}.1")
    linear = {}
    for name, key in squeezes(variant):
        linear |= {f"{name}.squeeze": f"{key}.fc1", f"{name}.excite": f"{key}.fc2"}
    if variant.head == "mlp":
        linear |= {"head.hidden": "classifier.2", "head": "classifier.5"}
    else:
        weights |= {"head.weight": get("classifier.0.weight")[:, :, 0, 0].T}
        weights |= _norm("head", get, "classifier.1")
    for name, key in linear.items():
        weights |= {f"{name}.weight": get(f"{key}.weight").T, f"{name}.bias": get(f"{key}.bias")}
    return weights


def _norm(name: str, get: Callable[[str], Array], key: str) -> Weights:
    return {f"{name}.norm.scale": get(f"{key}.weight"), f"{name}.norm.shift": get(f"{key}.bias"),
            f"{name}.norm.mean": get(f"{key}.running_mean"),
            f"{name}.norm.variance": get(f"{key}.running_var")}
