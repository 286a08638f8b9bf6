"""The inputs and outputs of a variant's graph."""

from __future__ import annotations

from satexport.bundle.contract import GraphOptions, TensorSpec, embedding_spec
from satexport.models.efficientat.embeddings import embedding_sizes
from satexport.models.efficientat.variants import Variant
from satexport.models.family import Interface


def interface(variant: Variant, classes: int, options: GraphOptions) -> Interface:
    """Return the inputs and outputs of a variant's graph, which has neither tokens nor a cache."""
    shape = (variant.window_samples,) if options.input == "audio" else (variant.mel.bands, variant.frames)
    size = embedding_sizes(variant).get(options.embedding, 0)
    return Interface(
        input=TensorSpec(options.input, (options.streams, *shape)),
        scores=TensorSpec("scores", (options.streams, classes)),
        embedding=embedding_spec(options, size), cache_in=(), cache_out=(), tokens={})
