"""The `Family` of Audio Spectrogram Transformers (AST)."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Final

from satexport.bundle.contract import Contract, GraphOptions
from satexport.models.ast.keys import MARKS
from satexport.models.ast.paper import PAPER
from satexport.models.ast.published import PUBLISHED
from satexport.models.ast.sizes import fit, identify, refuse, resembles
from satexport.models.ast.state import count_classes, count_parameters, random, read
from satexport.models.ast.variants import BANDS, VARIANTS, Variant, find_model
from satexport.models.family import Checkpoint, Interface, Reference, Rewrite, Shapes
from satexport.models.interface import stateless_interface
from satexport.models.transformer_size import BASE

__all__ = ["DEMOS", "MARKS", "PAPER", "PUBLISHED", "SORTS_CLASSES", "VARIANTS", "caution", "count_classes",
           "count_parameters", "describe", "embeddings", "find_model", "fit", "hub_types", "identify",
           "interface", "options", "random", "read", "reference", "refuse", "resembles", "rewrites"]

DEMOS: Final[Mapping[str, Path]] = {}
SORTS_CLASSES: Final = False


def options(variant: Variant) -> frozenset[str]:
    return frozenset({"input", "streams"})


def embeddings(variant: Variant) -> Mapping[str, str]:
    return {"tokens": "mean of the class and the distillation token after the last norm"}


def hub_types(variant: Variant) -> frozenset[str]:
    return frozenset({"audio-spectrogram-transformer", "ASTForAudioClassification"})


def caution(variant: Variant, shapes: Shapes, is_sure: bool) -> str:
    return "" if variant.width == BASE.width else (
        f"the shapes of an AST do not show its number of heads: make sure that this one has {variant.heads}.")


def interface(variant: Variant, classes: int, options: GraphOptions) -> Interface:
    return stateless_interface(variant, options, mel=(BANDS, variant.frames), classes=classes,
                               embedding=variant.width, tokens=variant.tokens)


def reference(checkpoint: Checkpoint[Variant], embedding: str = "") -> Reference:
    from satexport.models.ast.reference import PyTorchStep

    return PyTorchStep(checkpoint, embedding)


def rewrites(checkpoint: Checkpoint[Variant], contract: Contract, silence: None) -> Iterator[Rewrite]:
    """Yield the graph as published, then the graph after each of FOLDS."""
    from satexport.models.ast.graph import build_graph
    from satexport.models.ast.weights import graph_weights
    from satexport.models.folding import each_fold
    from satexport.models.patch_graph import FOLDS

    variant = checkpoint.variant
    for name, weights in each_fold(graph_weights(variant, checkpoint.state), FOLDS):
        yield Rewrite(name=name, graph=build_graph(variant, weights, contract), cache=[])


def describe(variant: Variant) -> Mapping[str, str | int]:
    return {"stride": variant.stride, "width": variant.width, "heads": variant.heads}
