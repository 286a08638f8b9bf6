"""The runtimes: one module each, all meeting the same `Step`.

A module has `load(bundle, threads) -> Step`. The table names modules, so that a runtime is
imported only where a bundle asks for it.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any, Protocol, cast

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from satexport.bundle import Bundle

FloatArray = NDArray[np.float32]

BACKENDS = {"onnxruntime": "satexport.backends.onnxruntime"}


class Step(Protocol):
    """One pass over one chunk. A cache is whatever the runtime likes; only the stream keeps it."""

    def initial_cache(self) -> Any:
        """The cache after silence."""

    def __call__(self, audio: FloatArray, cache: Any) -> tuple[FloatArray, Any]:
        """Audio [samples] and a cache to scores [classes] and the new cache; the old one stays
        as it was."""


def load_step(bundle: Bundle, threads: int | None = None) -> Step:
    """Load a bundle's graph with the runtime its target names; `threads` overrides the target's
    (0: the runtime decides). Raises `MissingError` where the runtime is not installed."""
    module = importlib.import_module(BACKENDS[bundle.target.backend])
    return cast(Step, module.load(bundle, bundle.target.threads if threads is None else threads))
