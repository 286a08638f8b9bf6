"""The `Family` of hierarchical token-semantic audio transformers (HTS-AT)."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Final

from satexport.bundle.contract import Contract, GraphOptions
from satexport.models.family import Checkpoint, Interface, Reference, Rewrite, Shapes, StateFile
from satexport.models.htsat.keys import MARKS
from satexport.models.htsat.paper import PAPER
from satexport.models.htsat.published import PUBLISHED
from satexport.models.htsat.sizes import identify, refuse, resembles
from satexport.models.htsat.state import count_classes, count_parameters, random, read
from satexport.models.htsat.variants import BANDS, VARIANTS, Variant, find_model
from satexport.models.interface import stateless_interface

__all__ = ["DEMOS", "MARKS", "PAPER", "PUBLISHED", "SORTS_CLASSES", "VARIANTS", "caution", "count_classes",
           "count_parameters", "describe", "embeddings", "find_model", "fit", "hub_types", "identify",
           "interface", "options", "random", "read", "reference", "refuse", "resembles", "rewrites"]

DEMOS: Final[Mapping[str, Path]] = {}
SORTS_CLASSES: Final = False


def options(variant: Variant) -> frozenset[str]:
    return frozenset({"input", "streams"})


def embeddings(variant: Variant) -> Mapping[str, str]:
    return {"mean": "mean of the tokens after the last norm"}


def fit(variant: Variant, file: StateFile) -> Variant:
    return variant


def hub_types(variant: Variant) -> frozenset[str]:
    return frozenset()


def caution(variant: Variant, shapes: Shapes, is_sure: bool) -> str:
    return ""


def interface(variant: Variant, classes: int, options: GraphOptions) -> Interface:
    return stateless_interface(variant, options, mel=(BANDS, variant.frames), classes=classes,
                               embedding=variant.embedding, tokens=variant.tokens)


def reference(checkpoint: Checkpoint[Variant], embedding: str = "") -> Reference:
    from satexport.models.htsat.reference import PyTorchStep

    return PyTorchStep(checkpoint, embedding)


def rewrites(checkpoint: Checkpoint[Variant], contract: Contract, silence: None) -> Iterator[Rewrite]:
    """Yield the graph as published, then the graph after each of FOLDS."""
    from satexport.models.folding import each_fold
    from satexport.models.htsat.graph import build_graph
    from satexport.models.htsat.weights import FOLDS, graph_weights

    variant = checkpoint.variant
    for name, weights in each_fold(graph_weights(variant, checkpoint.state), FOLDS):
        yield Rewrite(name=name, graph=build_graph(variant, weights, contract), cache=[])


def describe(variant: Variant) -> Mapping[str, str | int]:
    return {"width": variant.width, "heads": ", ".join(map(str, variant.heads)),
            "blocks": ", ".join(map(str, variant.depths))}
