"""onnxsim as a checked stage: its graph is kept only where it is equal and has fewer nodes or bytes."""

from __future__ import annotations

import onnx

from satexport.errors import MissingError
from satexport.runtimes import import_runtime


def simplify(model: onnx.ModelProto) -> tuple[onnx.ModelProto, str]:
    """Return onnxsim's graph and "" where it has fewer nodes or fewer bytes; else the graph as it
    was and why. Whether its outputs are equal is for the caller to prove, as for every rewrite.
    Raises `MissingError` where onnxsim is not installed."""
    try:
        onnxsim = import_runtime("onnxsim")  # it imports ONNX Runtime
    except ImportError:
        raise MissingError("onnxsim is not installed: pip install 'satexport[export]', "
                           "or pass --no-simplify.") from None
    try:
        simplified, _ = onnxsim.simplify(model)
    except Exception as error:  # a tool that may fail: the graph as it is remains right
        return model, f"onnxsim failed: {type(error).__name__}"
    del simplified.metadata_props[:]  # onnxsim writes each entry twice
    simplified.metadata_props.extend(model.metadata_props)
    nodes, size = graph_size(simplified)
    fewer = any(a < b for a, b in zip((nodes, size), graph_size(model), strict=True))
    return (simplified, "") if fewer else (model, f"no smaller: {nodes} nodes, {size / 1e6:.1f} MB")


def graph_size(model: onnx.ModelProto) -> tuple[int, int]:
    """Nodes and bytes of a graph."""
    return len(model.graph.node), model.ByteSize()
