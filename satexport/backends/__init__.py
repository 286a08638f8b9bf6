"""The runtimes: one module each, all meeting the same `Step`.

A module has `PACKAGE`, the runtime's Python package, and `load(bundle, threads, arena, spinning) -> Step`.
The table names modules, so that a runtime is imported only where a bundle asks for it.
"""

from __future__ import annotations

import importlib
import re
from typing import TYPE_CHECKING, Any, Protocol, cast

import numpy as np
from numpy.typing import NDArray

from satexport.errors import MissingError

if TYPE_CHECKING:
    from satexport.bundle.folder import Bundle

FloatArray = NDArray[np.float32]

BACKENDS = {name: f"satexport.backends.{name}.step" for name in ("onnxruntime", "openvino", "tensorrt")}
EXECUTED = ("precisions read back from what the runtime made of the graph: how many layers of the front "
            "end, and how many products of the model, in each; empty where it does not tell")


def check_version(package: str, found: str, least: tuple[int, int], extra: str) -> None:
    """Raise `MissingError` where a runtime is older than its extra asks for: before it loads anything, for an
    old one may end the process there."""
    if tuple(int(part) for part in re.findall(r"\d+", found)[:2]) < least:
        raise MissingError(f"{package} {found} is here, expected {'.'.join(map(str, least))} or newer: "
                           f"pip install 'satexport[{extra}]'.")


class Step(Protocol):
    """One pass over one chunk of each of N streams. A cache is whatever the runtime likes; only the
    stream keeps it."""

    def initial_cache(self, streams: int) -> Any:
        """The cache of so many streams after silence."""

    def __call__(self, x: FloatArray, cache: Any) -> tuple[FloatArray, Any]:
        """A chunk of each stream [N, ...] and a cache to scores [N, classes] and the new cache. Only that
        may be used from then on: a runtime may keep the state itself, or let two buffers take turns."""

    def silence(self, cache: Any, stream: int) -> Any:
        """The cache with one of its streams back at silence; it may be the same object."""

    def executed(self) -> dict[str, dict[str, int]]:
        """Precisions as read back from what the runtime made of the graph: part -> precision -> number of
        layers; {} where it does not tell."""


def load_step(bundle: Bundle, threads: int | None = None, arena: bool = True, spinning: bool = True) -> Step:
    """Load a bundle's graph with the runtime its target names; `threads` overrides the target's
    (None: the target's, and where it has none the runtime decides); `arena` False has the runtime
    give back each tensor when it is done with it, where it knows how; `spinning` False has its threads
    sleep between steps, for PyTorch beside it. Raises `MissingError` where
    the runtime is not installed."""
    backend = bundle.target.backend
    if backend not in BACKENDS:
        raise MissingError(f"{bundle.path} is for the backend {backend!r}, this satexport runs "
                           f"{', '.join(BACKENDS)}. Use the version that wrote it.")
    module = importlib.import_module(BACKENDS[backend])
    return cast(Step, module.load(bundle, threads or bundle.target.threads, arena, spinning))
