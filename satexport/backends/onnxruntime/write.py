"""Write the graph of a CPU bundle, with its weights in a separate file."""

from __future__ import annotations

import shutil
from contextlib import closing
from pathlib import Path

import numpy as np
import onnx

from satexport.backends.backend import Draft
from satexport.backends.onnxruntime.attention import fuse_attention
from satexport.backends.onnxruntime.in_memory import step_in_memory
from satexport.bundle.contract import ANY
from satexport.errors import RunError
from satexport.frontends.prepare import model_input
from satexport.step import FloatArray

GRAPH = "model.onnx"
TOLERANCE = 1e-3  # largest score difference between the graphs before and after; measured: 0, but rounding
                  # may move a value to the next integer
CHUNKS = 3
MIN_EXTERNAL_BYTES = 16_384  # smaller weights stay in the graph's own file


def fuse(draft: Draft) -> onnx.ModelProto:
    """Return the graph with int8 attention as nodes of ONNX Runtime; the graph as it is if nothing can be
    fused. Raises `RunError` if the scores of noise moved by more than the tolerance."""
    before = draft.graph.model
    after, count = fuse_attention(before)
    if not count:
        return before
    moved = np.abs(_run(after, draft) - _run(before, draft)).max()
    if not moved <= TOLERANCE:
        raise RunError(f"fusing attention moved the scores of noise by {moved:.1e}, expected at most "
                       f"{TOLERANCE:g}. Please report it with the model and the version of ONNX Runtime.")
    return after


def _run(model: onnx.ModelProto, draft: Draft) -> FloatArray:
    """Return the scores [CHUNKS, N, classes] of consecutive chunks of noise, which becomes louder."""
    contract = draft.contract
    streams = 1 if contract.options.streams == ANY else contract.options.streams
    random = np.random.default_rng(0)
    with closing(step_in_memory(model, contract, draft.initial_cache)) as step:
        cache, scores = step.initial_cache(streams), []
        for number in range(CHUNKS):
            noise = 0.1 ** (CHUNKS - number) * random.standard_normal((streams, contract.window_samples))
            outputs, cache = step(model_input(contract, noise.astype(np.float32)), cache)
            scores.append(outputs.scores)
    return np.stack(scores)


def write_onnx(folder: Path, model: onnx.ModelProto) -> str:
    """Write the graph and its weights as two files; returns the name of the graph's file.

    ONNX Runtime maps the file of weights into memory and releases each weight once it is packed. With a
    single file it would keep all weights in memory twice."""
    onnx.save_model(model, folder / GRAPH, save_as_external_data=True, location=f"{GRAPH}.data",
                    size_threshold=MIN_EXTERNAL_BYTES)
    shutil.copymode(folder / GRAPH, folder / f"{GRAPH}.data")  # onnx makes it readable by the owner only
    return GRAPH
