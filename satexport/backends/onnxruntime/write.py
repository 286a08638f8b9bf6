"""Write the graph of a CPU bundle, with its weights in a separate file."""

from __future__ import annotations

import shutil
from pathlib import Path

import onnx

GRAPH = "model.onnx"
MIN_EXTERNAL_BYTES = 16_384  # smaller weights stay in the graph's own file


def write_onnx(folder: Path, model: onnx.ModelProto) -> str:
    """Write the graph and its weights as two files; returns the name of the graph's file.

    ONNX Runtime maps the file of weights into memory and releases each weight once it is packed. With a
    single file it would keep all weights in memory twice."""
    onnx.save_model(model, folder / GRAPH, save_as_external_data=True, location=f"{GRAPH}.data",
                    size_threshold=MIN_EXTERNAL_BYTES)
    shutil.copymode(folder / GRAPH, folder / f"{GRAPH}.data")  # onnx makes it readable by the owner only
    return GRAPH
