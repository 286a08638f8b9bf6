"""The graph of a CPU bundle, with nodes of ONNX Runtime."""

from __future__ import annotations

from contextlib import closing

import numpy as np
import onnx

from satexport.backends.backend import Draft
from satexport.backends.onnxruntime.attention import fuse_attention
from satexport.backends.onnxruntime.in_memory import step_in_memory
from satexport.bundle.contract import ANY
from satexport.errors import RunError
from satexport.frontends.prepare import model_input
from satexport.step import FloatArray

TOLERANCE = 1e-3  # largest score difference between the graphs before and after; measured: 0, but rounding
                  # may move a value to the next integer
CHUNKS = 3


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
