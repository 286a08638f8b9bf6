"""onnxsim as a checked stage: its graph is kept only where it is equal and has fewer nodes or bytes."""

from __future__ import annotations

from dataclasses import dataclass

import onnx

from satexport.errors import MissingError
from satexport.graph.edit import replace
from satexport.graph.roles import Graph
from satexport.runtimes import import_runtime


@dataclass(frozen=True)
class Simplified:
    """What became of a graph."""

    graph: Graph       # onnxsim's; where that is not kept, the graph as it was
    why_not: str = ""  # onnxsim's was not kept


def simplify(graph: Graph) -> Simplified:
    """Return onnxsim's graph if it has fewer nodes or fewer bytes and every layer that the graph has.
    Whether its outputs are equal is for the caller to prove, as for every rewrite. Raises `MissingError`
    if onnxsim is not installed."""
    try:
        onnxsim = import_runtime("onnxsim")  # it imports ONNX Runtime
    except ImportError:
        raise MissingError("onnxsim is not installed: pip install 'satexport[export]', "
                           "or pass --no-simplify.") from None
    try:
        simplified, _ = onnxsim.simplify(graph.model)
    except Exception as error:  # a tool that may fail: the graph as it is remains right
        return Simplified(graph, f"onnxsim failed: {type(error).__name__}")
    replace(simplified.metadata_props, graph.model.metadata_props)  # onnxsim writes each entry twice
    found = graph.renamed(simplified)  # onnxsim calls a Gemm that it makes "Gemm_0"
    if lost := sorted(str(role) for role in graph.layers() - found.layers()):
        return Simplified(graph, f"{lost[0]} cannot be found in it")
    nodes, size = graph_size(simplified)
    if not any(a < b for a, b in zip((nodes, size), graph_size(graph.model), strict=True)):
        return Simplified(graph, f"no smaller: {nodes} nodes, {size / 1e6:.1f} MB")
    return Simplified(found)


def graph_size(model: onnx.ModelProto) -> tuple[int, int]:
    """Nodes and bytes of a graph."""
    return len(model.graph.node), model.ByteSize()
