"""Count the operations of a variant in the way in which a paper counted them."""

from __future__ import annotations

from satexport.bundle.contract import USUAL_OPTIONS, CheckpointOrigin
from satexport.bundle.folder import Bundle
from satexport.bundle.roles import ATTENTION, FRONT
from satexport.graph.operations import count_by_kind
from satexport.graph.roles import Graph
from satexport.models.checkpoint import load_checkpoint
from satexport.models.families import find_family, make_reference, named_variant
from satexport.models.family import Counting, Variant
from satexport.pipeline.export import make_contract


def count_as_paper(counting: Counting, variant: Variant, graph: Graph) -> float:
    """Return the operations of the model of one step, a multiply-add as two, as `counting` says. `graph`
    is that of the variant; if the graph of another variant counts, it is written, with random weights."""
    other = named_variant(counting.variant) if counting.variant else variant
    counts = count_by_kind(graph if other.name == variant.name else write_graph(other))
    counts.pop(FRONT, None)
    attention = counts.pop(ATTENTION, 0)
    share = counting.tokens / _tokens(other) if counting.tokens else 1.0
    return (sum(counts.values()) * share + (attention * share ** 2 if counting.attention else 0)
            + counting.more * 1e9)


def read_graph(bundle: Bundle) -> Graph:
    """Return the graph of a bundle for ONNX Runtime, without the values of external weights."""
    import onnx

    return Graph(onnx.load(bundle.graph, load_external_data=False), bundle.roles)


def write_graph(variant: Variant) -> Graph:
    """Return the graph of a variant after all rewrites of its family, with random weights. It is not
    proven."""
    checkpoint = load_checkpoint("random", variant)
    contract = make_contract(variant, checkpoint.classes, USUAL_OPTIONS, labels_sha256="",
                             checkpoint=CheckpointOrigin(name="", source="random", sha256=""))
    silence = make_reference(checkpoint).initial_cache(1)
    *_, last = find_family(variant.family).rewrites(checkpoint, contract, silence)
    return last.graph


def _tokens(variant: Variant) -> int:
    return find_family(variant.family).interface(variant, 1, USUAL_OPTIONS).tokens["new"]
