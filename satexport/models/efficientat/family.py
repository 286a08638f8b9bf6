"""The `Family` of EfficientAT's MobileNets."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Final

from satexport.bundle.contract import Contract, GraphOptions
from satexport.models.efficientat.embeddings import embedding_sizes, embeddings
from satexport.models.efficientat.keys import MARKS, refuse, resembles
from satexport.models.efficientat.paper import PAPER
from satexport.models.efficientat.published import PUBLISHED
from satexport.models.efficientat.random import random
from satexport.models.efficientat.state import count_classes, count_parameters, read
from satexport.models.efficientat.variants import VARIANTS, Variant, find_model
from satexport.models.family import Checkpoint, Interface, Reference, Rewrite, Shapes, StateFile
from satexport.models.interface import stateless_interface

__all__ = ["DEMOS", "MARKS", "PAPER", "PUBLISHED", "SORTS_CLASSES", "VARIANTS", "caution", "count_classes",
           "count_parameters", "describe", "embeddings", "find_model", "fit", "hub_types", "identify",
           "interface", "options", "random", "read", "reference", "refuse", "resembles", "rewrites"]

DEMOS: Final[Mapping[str, Path]] = {}
SORTS_CLASSES: Final = False


def options(variant: Variant) -> frozenset[str]:
    return frozenset({"input", "streams"})


def fit(variant: Variant, file: StateFile) -> Variant:
    return variant


def identify(shapes: Shapes) -> str:
    return ""  # `refuse` says what other MobileNets are


def hub_types(variant: Variant) -> frozenset[str]:
    return frozenset()


def caution(variant: Variant, shapes: Shapes, is_sure: bool) -> str:
    others = dict.fromkeys(other.model for other in resembles(shapes) if other.model != variant.model)
    if others and not is_sure:
        return (f"checkpoints of {variant.model} and of {', '.join(others)} have the same shapes: make sure "
                f"that this one is {variant.model}, because another front end or other strides give other "
                "scores.")
    return ""


def interface(variant: Variant, classes: int, options: GraphOptions) -> Interface:
    size = embedding_sizes(variant).get(options.embedding, 0)
    return stateless_interface(variant, options, mel=(variant.mel.bands, variant.frames), classes=classes,
                               embedding=size, tokens=None)


def reference(checkpoint: Checkpoint[Variant], embedding: str = "") -> Reference:
    from satexport.models.efficientat.reference import PyTorchStep

    return PyTorchStep(checkpoint, embedding)


def rewrites(checkpoint: Checkpoint[Variant], contract: Contract, silence: None) -> Iterator[Rewrite]:
    """Yield the graph as published, then the graph after each of FOLDS."""
    from satexport.models.efficientat.folds import FOLDS
    from satexport.models.efficientat.graph import build_graph
    from satexport.models.efficientat.weights import graph_weights
    from satexport.models.folding import each_fold

    variant = checkpoint.variant
    for name, weights in each_fold(graph_weights(variant, checkpoint.state), FOLDS):
        yield Rewrite(name=name, graph=build_graph(variant, weights, contract), cache=[])


def describe(variant: Variant) -> Mapping[str, str | int]:
    return {"bands": variant.mel.bands, "hop, ms": 1000 * variant.mel.hop // variant.sample_rate,
            "head": variant.head}
