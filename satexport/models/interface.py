"""The inputs and outputs of a graph without a cache, for several families."""

from __future__ import annotations

from satexport.bundle.contract import GraphOptions, TensorSpec, embedding_spec
from satexport.models.family import Interface, Variant


def stateless_interface(variant: Variant, options: GraphOptions, *, mel: tuple[int, int], classes: int,
                        embedding: int, tokens: int | None) -> Interface:
    """Return the inputs and outputs of a graph without a cache. `mel` is bands and frames of the features
    that one step takes, `embedding` the size of an embedding, `tokens` their number; None: it has none."""
    shape = (variant.window_samples,) if options.input == "audio" else mel
    return Interface(
        input=TensorSpec(options.input, (options.streams, *shape)),
        scores=TensorSpec("scores", (options.streams, classes)),
        embedding=embedding_spec(options, embedding), cache_in=(), cache_out=(),
        tokens={} if tokens is None else {"new": tokens, "cached": 0})
