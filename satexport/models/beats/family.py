"""The `Family` of BEATs."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Final

from satexport.bundle.contract import Contract, GraphOptions
from satexport.models.beats.keys import MARKS, fit, refuse, resembles
from satexport.models.beats.paper import PAPER
from satexport.models.beats.published import PUBLISHED
from satexport.models.beats.state import count_classes, count_parameters, random, read
from satexport.models.beats.variants import BANDS, VARIANTS, Variant, find_model
from satexport.models.family import Checkpoint, Interface, Reference, Rewrite, Shapes
from satexport.models.interface import stateless_interface

__all__ = ["DEMOS", "MARKS", "PAPER", "PUBLISHED", "SORTS_CLASSES", "VARIANTS", "caution", "count_classes",
           "count_parameters", "describe", "embeddings", "find_model", "fit", "hub_types", "identify",
           "interface", "options", "random", "read", "reference", "refuse", "resembles", "rewrites"]

DEMOS: Final[Mapping[str, Path]] = {}
SORTS_CLASSES: Final = True  # a label_dict gives the order


def options(variant: Variant) -> frozenset[str]:
    return frozenset({"input", "streams"})


def embeddings(variant: Variant) -> Mapping[str, str]:
    return {"mean": "mean of the tokens after the last block"}


def identify(shapes: Shapes) -> str:
    return ""  # `resembles` returns the published model for every BEATs


def hub_types(variant: Variant) -> frozenset[str]:
    return frozenset()


def caution(variant: Variant, shapes: Shapes, is_sure: bool) -> str:
    return ""  # the config of the file says everything


def interface(variant: Variant, classes: int, options: GraphOptions) -> Interface:
    return stateless_interface(variant, options, mel=(BANDS, variant.frames), classes=classes,
                               embedding=variant.size.width, tokens=variant.tokens)


def reference(checkpoint: Checkpoint[Variant], embedding: str = "") -> Reference:
    from satexport.models.beats.reference import PyTorchStep

    return PyTorchStep(checkpoint, embedding)


def rewrites(checkpoint: Checkpoint[Variant], contract: Contract, silence: None) -> Iterator[Rewrite]:
    """Yield the graph as published, then the graph after each of FOLDS."""
    from satexport.models.beats.graph import build_graph
    from satexport.models.beats.weights import FOLDS, graph_weights
    from satexport.models.folding import each_fold

    variant = checkpoint.variant
    for name, weights in each_fold(graph_weights(variant, checkpoint.state), FOLDS):
        yield Rewrite(name=name, graph=build_graph(variant, weights, contract), cache=[])


def describe(variant: Variant) -> Mapping[str, str | int]:
    return {"width": variant.size.width, "heads": variant.size.heads}
