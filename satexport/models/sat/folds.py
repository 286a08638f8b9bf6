"""The folds of a SAT, ViT or CED: exact algebra that removes work from a step. See `transformer_folds`."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from satexport.graph.writer import Weights
from satexport.models.sat.variants import PATCH, ROWS
from satexport.models.transformer_folds import TRANSFORMER_FOLDS


def _fold_batch_norm(w: Weights) -> Weights:
    """Move the shift of the mel bands through the patch product into the position code. The scale of the
    bands stays, one multiplication per value: folding it would need one patch matrix per row of patches."""
    patch = w["patch.weight"].reshape(PATCH, PATCH, -1)                    # band, frame, d
    shift = np.einsum("rb,bfd->rd", w["mel.shift"].reshape(ROWS, PATCH), patch)
    return w | {"position": w["position"] + shift[:, None], "mel.shift": np.zeros_like(w["mel.shift"])}


FOLDS: dict[str, Callable[[Weights], Weights]] = {  # in this order
    "shift of the batch norm into the position code": _fold_batch_norm, **TRANSFORMER_FOLDS}
