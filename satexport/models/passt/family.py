"""The `Family` of Patchout faSt Spectrogram Transformers (PaSST)."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Final

from satexport.bundle.contract import Contract, GraphOptions
from satexport.models.family import Checkpoint, Interface, Reference, Rewrite, StateFile
from satexport.models.interface import stateless_interface
from satexport.models.passt.keys import MARKS
from satexport.models.passt.paper import PAPER
from satexport.models.passt.published import PUBLISHED
from satexport.models.passt.sizes import caution, identify, refuse, resembles
from satexport.models.passt.state import count_classes, count_parameters, random, read
from satexport.models.passt.variants import BANDS, VARIANTS, Variant, find_model

__all__ = ["DEMOS", "MARKS", "PAPER", "PUBLISHED", "SORTS_CLASSES", "VARIANTS", "caution", "count_classes",
           "count_parameters", "describe", "embeddings", "find_model", "fit", "hub_types", "identify",
           "interface", "options", "random", "read", "reference", "refuse", "resembles", "rewrites"]

DEMOS: Final[Mapping[str, Path]] = {}
SORTS_CLASSES: Final = False


def options(variant: Variant) -> frozenset[str]:
    return frozenset({"input", "streams"})


def fit(variant: Variant, file: StateFile) -> Variant:
    return variant


def embeddings(variant: Variant) -> Mapping[str, str]:
    return {"tokens": "mean of the class and the distillation token after the last norm"}


def hub_types(variant: Variant) -> frozenset[str]:
    return frozenset()


def interface(variant: Variant, classes: int, options: GraphOptions) -> Interface:
    return stateless_interface(variant, options, mel=(BANDS, variant.frames), classes=classes,
                               embedding=variant.width, tokens=variant.tokens)


def reference(checkpoint: Checkpoint[Variant], embedding: str = "") -> Reference:
    from satexport.models.passt.reference import PyTorchStep

    return PyTorchStep(checkpoint, embedding)


def rewrites(checkpoint: Checkpoint[Variant], contract: Contract, silence: None) -> Iterator[Rewrite]:
    """Yield the graph as published, then the graph after each of FOLDS."""
    from satexport.models.folding import each_fold
    from satexport.models.passt.graph import build_graph
    from satexport.models.passt.weights import graph_weights
    from satexport.models.patch_graph import FOLDS

    variant = checkpoint.variant
    for name, weights in each_fold(graph_weights(variant, checkpoint.state), FOLDS):
        yield Rewrite(name=name, graph=build_graph(variant, weights, contract), cache=[])


def describe(variant: Variant) -> Mapping[str, str | int]:
    return {"stride": variant.stride, "hop, samples": variant.mel.hop, "width": variant.width,
            "heads": variant.heads}
