"""Write a graph to files."""

from __future__ import annotations

import shutil
from pathlib import Path

import onnx

GRAPH = "model.onnx"
MIN_EXTERNAL_BYTES = 16_384  # smaller weights stay in the graph's own file


def write_with_weights(folder: Path, model: onnx.ModelProto) -> str:
    """Write the graph and its weights as two files; returns the name of the graph's file.

    ONNX Runtime maps the file of weights into memory and releases each weight once it is packed. With a
    single file it would keep all weights in memory twice."""
    weights = f"{GRAPH}.data"
    onnx.save_model(model, folder / GRAPH, save_as_external_data=True, location=weights,
                    size_threshold=MIN_EXTERNAL_BYTES)
    if (folder / weights).exists():
        shutil.copymode(folder / GRAPH, folder / weights)  # onnx makes it readable by the owner only
    return GRAPH
