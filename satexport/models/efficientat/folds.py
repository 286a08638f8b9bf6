"""Exact algebra that removes work from a step.

A fold maps the weights that `graph_weights` returns to weights of the *same* function. An export proves each
fold by running the graphs before and after it. All arithmetic is in float64; the graph rounds once, to
float32.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from satexport.graph.writer import Weights
from satexport.models.efficientat.variants import BN_EPS, HEAD_BN_EPS

_NORM = ".norm.scale"


def _fold_batch_norms(w: Weights) -> Weights:
    """Move each batch norm into the convolution before it, which gets a bias. The head "fc" averages after
    its batch norm, and may do so before its product, because both are linear."""
    folded = {key: value for key, value in w.items() if ".norm." not in key}
    for name in (key.removesuffix(_NORM) for key in w if key.endswith(_NORM)):
        is_head = name == "head"
        eps = HEAD_BN_EPS if is_head else BN_EPS
        scale = w[f"{name}{_NORM}"] / np.sqrt(w[f"{name}.norm.variance"] + eps)
        weight = w[f"{name}.weight"]
        folded[f"{name}.weight"] = weight * (scale if is_head else scale[:, None, None, None])
        folded[f"{name}.bias"] = w[f"{name}.norm.shift"] - w[f"{name}.norm.mean"] * scale
    return folded


def _fold_scale(w: Weights) -> Weights:
    """Move the scale of the log-mel into the first convolution."""
    return w | {"00.conv.weight": w["00.conv.weight"] * w["mel.scale"], "mel.scale": np.asarray(1.0)}


def _fold_shift(w: Weights) -> Weights:
    """Move the shift of the log-mel into the mel filters, as a factor: ln(x) + s = ln(e^s x). (The first
    convolution cannot take it, because it pads the shifted log-mel with zeros.)"""
    return w | {"mel.raised": w["mel.shift"], "mel.shift": np.asarray(0.0)}


FOLDS: dict[str, Callable[[Weights], Weights]] = {  # in this order
    "batch norm into the convolution before it": _fold_batch_norms,
    "scale of the log-mel into the first convolution": _fold_scale,
    "shift of the log-mel into the mel filters": _fold_shift,
}
