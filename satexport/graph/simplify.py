"""Simplify a graph with onnxsim; the result is used only if it is equivalent and has fewer nodes or bytes."""

from __future__ import annotations

from dataclasses import dataclass

import onnx

from satexport.errors import MissingError
from satexport.graph.edit import replace
from satexport.graph.roles import Graph
from satexport.graph.weights import restore_weights, weight_bytes, without_weights
from satexport.runtimes import import_runtime


@dataclass(frozen=True)
class Simplified:
    """A graph after onnxsim."""

    graph: Graph       # the result of onnxsim, or the original graph if that was rejected
    why_not: str = ""  # why the result was rejected; empty if it was not


def simplify(graph: Graph) -> Simplified:
    """Return onnxsim's graph if it has fewer nodes or fewer bytes, and all layers of the original. The caller
    must verify that its outputs are equal, as for every rewrite. Raises `MissingError` if onnxsim is not
    installed."""
    try:
        onnxsim = import_runtime("onnxsim")  # it imports ONNX Runtime
    except ImportError:
        raise MissingError("onnxsim is not installed: pip install 'satexport[export]', "
                           "or pass --no-simplify.") from None
    try:
        # what a family leaves to compute from constants is small in the file and computed at loading
        simplified, _ = onnxsim.simplify(without_weights(graph.model), skip_constant_folding=True)
    except Exception as error:  # if the tool fails, the original graph is still valid
        return Simplified(graph, f"onnxsim failed: {type(error).__name__}")
    restore_weights(simplified, graph.model)
    replace(simplified.metadata_props, graph.model.metadata_props)  # onnxsim writes each entry twice
    result = graph.with_renamed_nodes(simplified)  # onnxsim names the Gemm nodes that it creates "Gemm_0"
    if lost := sorted(str(role) for role in graph.layers() - result.layers()):
        return Simplified(graph, f"layer {lost[0]} is missing in it")
    nodes, size = graph_size(simplified)
    if not any(a < b for a, b in zip((nodes, size), graph_size(graph.model), strict=True)):
        return Simplified(graph, f"not smaller: {nodes} nodes, {size / 1e6:.1f} MB")
    return Simplified(result)


def graph_size(model: onnx.ModelProto) -> tuple[int, int]:
    """The number of nodes and bytes of a graph."""
    return len(model.graph.node), without_weights(model).ByteSize() + weight_bytes(model)
