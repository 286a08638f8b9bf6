"""The `Family` of EfficientAT's MobileNets."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Final

from satexport.bundle.contract import Contract
from satexport.models.efficientat.embeddings import embeddings
from satexport.models.efficientat.interface import interface
from satexport.models.efficientat.keys import MARKS, refuse, resembles
from satexport.models.efficientat.paper import PAPER
from satexport.models.efficientat.published import PUBLISHED
from satexport.models.efficientat.random import random
from satexport.models.efficientat.state import count_classes, count_parameters, read
from satexport.models.efficientat.variants import VARIANTS, Variant, find_model
from satexport.models.family import Checkpoint, Reference, Rewrite, Shapes

__all__ = ["DEMOS", "MARKS", "PAPER", "PUBLISHED", "VARIANTS", "caution", "count_classes",
           "count_parameters", "describe", "embeddings", "find_model", "fit", "hub_types", "interface",
           "options", "random", "read", "reference", "refuse", "resembles", "rewrites"]

DEMOS: Final[Mapping[str, Path]] = {}


def options(variant: Variant) -> frozenset[str]:
    return frozenset({"input", "streams"})


def fit(variant: Variant, shapes: Shapes) -> Variant:
    return variant


def hub_types(variant: Variant) -> frozenset[str]:
    return frozenset()


def caution(variant: Variant, shapes: Shapes, is_sure: bool) -> str:
    others = dict.fromkeys(other.model for other in resembles(shapes) if other.model != variant.model)
    if others and not is_sure:
        return (f"checkpoints of {variant.model} and of {', '.join(others)} have the same shapes: make sure "
                f"that this one is {variant.model}, because another front end or other strides give other "
                "scores.")
    return ""


def reference(checkpoint: Checkpoint[Variant], embedding: str = "") -> Reference:
    from satexport.models.efficientat.reference import PyTorchStep

    return PyTorchStep(checkpoint, embedding)


def rewrites(checkpoint: Checkpoint[Variant], contract: Contract, silence: None) -> Iterator[Rewrite]:
    """Yield the graph as published, then the graph after each of FOLDS."""
    from satexport.models.efficientat.folds import FOLDS
    from satexport.models.efficientat.graph import build_graph
    from satexport.models.efficientat.weights import graph_weights

    variant = checkpoint.variant
    weights = graph_weights(variant, checkpoint.state)
    for name in ("as published", *FOLDS):
        weights = FOLDS[name](weights) if name in FOLDS else weights
        yield Rewrite(name=name, graph=build_graph(variant, weights, contract), cache=[])


def describe(variant: Variant) -> Mapping[str, str | int]:
    return {"bands": variant.mel.bands, "hop, ms": 1000 * variant.mel.hop // variant.sample_rate,
            "head": variant.head}
