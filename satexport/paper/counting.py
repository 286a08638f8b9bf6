"""Count the operations of a variant in the way in which a paper counted them."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Final

from satexport.bundle.contract import USUAL_OPTIONS, CheckpointOrigin
from satexport.bundle.folder import Bundle
from satexport.bundle.roles import ATTENTION, FRONT, Role
from satexport.graph.operations import count_by_role
from satexport.graph.roles import Graph
from satexport.models.checkpoint import load_checkpoint
from satexport.models.claims import Counting
from satexport.models.families import find_family, make_reference, named_variant
from satexport.models.family import Variant
from satexport.pipeline.export import make_contract

BLOCK: Final = re.compile(r"[0-9]+\.(?P<name>.+)")  # a layer in a block, such as "00.fc1"


def count_as_paper(counting: Counting, variant: Variant, graph: Graph) -> float:
    """Return the operations of the model of one step, a multiply-add as two, as `counting` says. `graph`
    is that of the variant; if the graph of another variant counts, it is written, with random weights."""
    other = named_variant(counting.variant) if counting.variant else variant
    counts = count_by_role(graph if other.name == variant.name else write_graph(other))
    if counting.every_token:
        counts = {role: _in_any_block(role, counts) for role in counts}
    attention = sum(count for role, count in counts.items() if role and role.kind == ATTENTION)
    front_end = sum(count for role, count in counts.items() if role and role.kind == FRONT)
    share = counting.tokens / _tokens(other) if counting.tokens else 1.0
    return ((sum(counts.values()) - attention - front_end) * share
            + (attention * share ** 2 if counting.attention else 0) + counting.more * 1e9)


def _in_any_block(role: Role | None, counts: Mapping[Role | None, int]) -> int:
    """Return the largest count of a layer of this name in any block. satexport's graphs compute in the
    last block only those tokens that are read after it; the published models compute all of them."""
    if role is None or not (found := BLOCK.fullmatch(role.layer)):
        return counts[role]
    return max(count for other, count in counts.items() if other and other.kind == role.kind
               and (same := BLOCK.fullmatch(other.layer)) and same["name"] == found["name"])


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
