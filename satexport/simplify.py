"""onnxsim as a checked stage: its graph is kept only where it is equal and has fewer nodes or bytes."""

from __future__ import annotations

import onnx

from satexport.errors import MissingError


def simplify(model: onnx.ModelProto) -> onnx.ModelProto | None:
    """Return onnxsim's graph where it has fewer nodes or fewer bytes; None where it has not, or
    where onnxsim fails. Whether its outputs are equal is for the caller to prove, as for every
    rewrite."""
    try:
        import onnxsim
    except ImportError:
        raise MissingError("onnxsim is not installed: pip install 'satexport[export]', "
                           "or pass --no-simplify.") from None
    try:
        simplified, _ = onnxsim.simplify(model)
    except Exception:  # a tool that may fail: the graph as it is remains right
        return None
    del simplified.metadata_props[:]  # onnxsim writes each entry twice
    simplified.metadata_props.extend(model.metadata_props)
    fewer = any(a < b for a, b in zip(graph_size(simplified), graph_size(model), strict=True))
    return simplified if fewer else None


def graph_size(model: onnx.ModelProto) -> tuple[int, int]:
    """Nodes and bytes of a graph."""
    return len(model.graph.node), model.ByteSize()
