"""The graph of a CPU bundle, its weights in a file of their own."""

from __future__ import annotations

import shutil
from pathlib import Path

import onnx

GRAPH = "model.onnx"
LARGE = 16_384    # bytes of a weight that goes into the file of the weights


def write_onnx(folder: Path, model: onnx.ModelProto) -> str:
    """The graph, its weights in a file of their own: ONNX Runtime maps that into memory and lets each
    weight go when it has packed it; from one file it would hold all of them twice."""
    onnx.save_model(model, folder / GRAPH, save_as_external_data=True, location=f"{GRAPH}.data",
                    size_threshold=LARGE)
    shutil.copymode(folder / GRAPH, folder / f"{GRAPH}.data")  # onnx writes it for the owner alone
    return GRAPH
