"""Convert a state dict to the graph's weights."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import numpy as np
from numpy.typing import NDArray

from satexport.graph.writer import Array, Weights
from satexport.models.efficientat.keys import convolutions, head_weight, linear_layers
from satexport.models.efficientat.variants import MEAN, SCALE, Variant


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
    for name, layer in convolutions(variant).items():
        weights |= {f"{name}.weight": get(f"{layer.key}.0.weight")} | _norm(name, get, f"{layer.key}.1")
    for name, layer in linear_layers(variant, len(state[head_weight(variant)])).items():
        weights |= {f"{name}.weight": get(f"{layer.key}.weight").T, f"{name}.bias": get(f"{layer.key}.bias")}
    if variant.head == "fc":
        weights |= {"head.weight": get("classifier.0.weight")[:, :, 0, 0].T}
        weights |= _norm("head", get, "classifier.1")
    return weights


def _norm(name: str, get: Callable[[str], Array], key: str) -> Weights:
    return {f"{name}.norm.scale": get(f"{key}.weight"), f"{name}.norm.shift": get(f"{key}.bias"),
            f"{name}.norm.mean": get(f"{key}.running_mean"),
            f"{name}.norm.variance": get(f"{key}.running_var")}
