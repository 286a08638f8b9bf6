"""The weights of a graph after each of its folds, for all families."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping

from satexport.graph.writer import Weights


def each_fold(weights: Weights, folds: Mapping[str, Callable[[Weights], Weights]],
              first: str = "as published") -> Iterator[tuple[str, Weights]]:
    """Yield the name and the weights of each rewrite of a graph: the given weights, named `first`, then the
    weights after each fold in turn. A fold does not change the function of the graph."""
    yield first, weights
    for name, fold in folds.items():
        weights = fold(weights)
        yield name, weights
