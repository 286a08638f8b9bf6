"""The `Family` of Streaming Audio Transformers (SAT), ViTs without a cache, and CED, which has the
architecture of a ViT."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Final

from satexport.bundle.contract import Contract
from satexport.files import PACKAGE_FOLDER
from satexport.models.family import Checkpoint, Reference, Rewrite, Shapes, StateFile
from satexport.models.sat.interface import initial_cache, interface
from satexport.models.sat.keys import MARKS, identify, resembles
from satexport.models.sat.paper import PAPER
from satexport.models.sat.published import PUBLISHED
from satexport.models.sat.state import count_classes, count_parameters, random, read
from satexport.models.sat.variants import VARIANTS, Variant, find_model

if TYPE_CHECKING:
    import torch

__all__ = ["DEMOS", "MARKS", "PAPER", "PUBLISHED", "SORTS_CLASSES", "VARIANTS", "caution", "count_classes",
           "count_parameters", "describe", "embeddings", "find_model", "fit", "hub_types", "identify",
           "interface", "options", "random", "read", "reference", "refuse", "resembles", "rewrites"]

DEMOS: Final = {"sat-t-2s": PACKAGE_FOLDER / "data" / "demo-sat-t-2s.safetensors"}
SORTS_CLASSES: Final = False


def options(variant: Variant) -> frozenset[str]:
    return frozenset({"input", "streams"} | ({"cache"} if variant.has_cache else set()))


def embeddings(variant: Variant) -> Mapping[str, str]:
    if variant.pooling == "token":
        return {"token": "class token after the last norm"}
    return {"mean": "mean of the tokens of the new audio after the last norm"}


def fit(variant: Variant, file: StateFile) -> Variant:
    return variant


def refuse(file: str, shapes: Shapes) -> str:
    return ""


def hub_types(variant: Variant) -> frozenset[str]:
    return frozenset({"ced", "CedForAudioClassification"} if variant.is_ced else ())


def caution(variant: Variant, shapes: Shapes, is_sure: bool) -> str:
    if is_sure:
        return ""
    if variant.has_cache and variant.pooling == "token":
        return (f"SAT-S checkpoints for 1 s and for 2 s have the same shapes: make sure that this one was "
                f"trained for {variant.delay} s.")
    others = dict.fromkeys(other.model for other in resembles(shapes) if other.model != variant.model)
    if others:
        return (f"checkpoints of {variant.model} and {' and '.join(others)} have the same shapes: make sure "
                f"that this one is a {variant.model}. Streamed scores are the same for both; the clip "
                "protocol and the paper's figures are not.")
    return ""


def reference(checkpoint: Checkpoint[Variant], embedding: str = "") -> Reference:
    from satexport.models.sat.reference import PyTorchStep

    return PyTorchStep(checkpoint, embedding)


def rewrites(checkpoint: Checkpoint[Variant], contract: Contract,
             silence: torch.Tensor | None) -> Iterator[Rewrite]:
    """Yield the graph as published, then the graph after each of FOLDS. `silence` is the published cache of
    one stream after silence, hidden tokens [depth, 1, C, d]; None for a model without a cache."""
    from satexport.models.folding import each_fold
    from satexport.models.sat.folds import FOLDS
    from satexport.models.sat.graph import build_graph
    from satexport.models.sat.weights import graph_weights

    variant = checkpoint.variant
    hidden = None if silence is None else silence[:, 0].numpy()
    published = hidden is None or contract.options.cache == "hidden"
    first = "as published" if published else "keys and values cached"
    for name, weights in each_fold(graph_weights(variant, checkpoint.state), FOLDS, first):
        cache = [] if hidden is None else initial_cache(variant, contract.options, weights, hidden)
        yield Rewrite(name=name, graph=build_graph(variant, weights, contract), cache=cache)


def describe(variant: Variant) -> Mapping[str, str | int]:
    return {"width": variant.width, "heads": variant.heads, "pooling": variant.pooling}
