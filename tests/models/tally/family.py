"""Tally as a `Family`."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Final

import numpy as np

from satexport.bundle.contract import Contract, GraphOptions, TensorSpec, embedding_spec
from satexport.errors import CheckpointError
from satexport.models.claims import PaperFigures
from satexport.models.family import (
    Checkpoint,
    Interface,
    Published,
    Reference,
    Rewrite,
    Shapes,
    State,
    StateFile,
)
from satexport.models.weightfile import read_floats
from tests.models.tally.reference import Cache, NumpyTally
from tests.models.tally.variants import LOG_MEL, VARIANTS, Variant, find_model

__all__ = ["DEMOS", "MARKS", "PAPER", "PUBLISHED", "SORTS_CLASSES", "VARIANTS", "caution", "count_classes",
           "count_parameters", "describe", "embeddings", "find_model", "fit", "hub_types", "identify",
           "interface", "options", "random", "read", "reference", "refuse", "resembles", "rewrites"]

MARK: Final = "hidden.weight"
MARKS: Final = frozenset({MARK})
PUBLISHED: Final[Mapping[str, Sequence[Published]]] = {}
DEMOS: Final[Mapping[str, Path]] = {}
PAPER: Final[Mapping[str, Sequence[PaperFigures]]] = {}
SORTS_CLASSES: Final = False


def options(variant: Variant) -> frozenset[str]:
    return frozenset({"input", "streams"})


def _shapes(variant: Variant, classes: int) -> Shapes:
    bands, width = LOG_MEL.bands, variant.width
    return {"band.scale": (bands,), "band.shift": (bands,), "hidden.weight": (width, bands),
            "hidden.bias": (width,), "head.weight": (classes, width), "head.bias": (classes,)}


def read(file: StateFile, variant: Variant, path: Path) -> State:
    classes = file.shapes.get("head.bias", (0,))[0]
    if file.shapes != _shapes(variant, classes):
        raise CheckpointError(f"{path}: is not a {variant.model}.")
    return {key: read_floats(path, key, entry) for key, entry in file.entries.items()}


def resembles(shapes: Shapes) -> Sequence[Variant]:
    return [v for v in VARIANTS.values() if shapes.get(MARK) == (v.width, LOG_MEL.bands)]


def fit(variant: Variant, file: StateFile) -> Variant:
    return variant


def embeddings(variant: Variant) -> Mapping[str, str]:
    return {"hidden": "mean of the last hidden vectors"}


def identify(shapes: Shapes) -> str:
    return ""


def refuse(file: str, shapes: Shapes) -> str:
    return "is a tally for music, which is not supported; expected one for sounds." if "music" in file else ""


def count_parameters(variant: Variant, classes: int) -> int:
    return sum(math.prod(shape) for shape in _shapes(variant, classes).values())


def hub_types(variant: Variant) -> frozenset[str]:
    return frozenset({"tally", "TallyForAudioClassification"})


def caution(variant: Variant, shapes: Shapes, is_sure: bool) -> str:
    return ""


def random(variant: Variant, classes: int, seed: int) -> State:
    rng = np.random.default_rng(seed)
    state = {key: rng.normal(0, 0.3, shape).astype(np.float32)
             for key, shape in _shapes(variant, classes).items()}
    return state | {"band.scale": np.full(LOG_MEL.bands, 0.05, np.float32)}


def count_classes(state: State) -> int:
    return len(state["head.bias"])


def interface(variant: Variant, classes: int, options: GraphOptions) -> Interface:
    shape = (variant.window_samples,) if options.input == "audio" else (LOG_MEL.bands, variant.frames)
    cache = (options.streams, variant.memory_steps, variant.width)
    return Interface(
        input=TensorSpec(options.input, (options.streams, *shape)),
        scores=TensorSpec("scores", (options.streams, classes)),
        embedding=embedding_spec(options, variant.width),
        cache_in=(TensorSpec("cache_in_00", cache),), cache_out=(TensorSpec("cache_out_00", cache),),
        tokens={"new": 1, "cached": variant.memory_steps})


def reference(checkpoint: Checkpoint[Variant], embedding: str = "") -> Reference:
    return NumpyTally(checkpoint, embedding)


def rewrites(checkpoint: Checkpoint[Variant], contract: Contract, silence: Cache) -> Iterator[Rewrite]:
    from tests.models.tally.graph import build_graph, fold_scale, graph_weights

    weights = graph_weights(checkpoint.state)
    for name in ("as published", "scale of the bands into the hidden layer"):
        graph = build_graph(checkpoint.variant, weights, contract)
        yield Rewrite(name=name, graph=graph, cache=[silence.astype(np.float32)])
        weights = fold_scale(weights)


def describe(variant: Variant) -> Mapping[str, str | int]:
    return {"hidden": variant.width}
