"""tract, an inference engine in Rust: it loads the fp32 graph that satexport exports, as it is."""

from __future__ import annotations

from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.peers.ours import export
from benchmarks.peers.peer import Case, PeerStep, Store
from satexport.bundle.folder import Bundle, open_bundle
from satexport.errors import MissingError
from satexport.step import FloatArray, Outputs, Step


@dataclass(frozen=True)
class Tract:
    """The exported graph under tract, which computes in one thread."""

    name = "tract"
    title = "tract, satexport's graph"
    precision = "fp32"
    environment = "tract"
    starts_from_zeros = False
    packages = ("tract",)
    is_ours = False

    def prepare(self, case: Case, store: Store) -> Path:
        return export(case, store)

    def load(self, case: Case, folder: Path, threads: int) -> Step:
        if threads > 1:
            raise MissingError("tract computes in one thread")
        return TractStep(open_bundle(folder))


class TractStep(PeerStep):
    """A bundle's graph under tract as a step."""

    def __init__(self, bundle: Bundle) -> None:
        tract = import_module("tract")
        self._model = tract.onnx().load(str(bundle.graph)).into_model().into_runnable()
        self._initial = list(bundle.initial_cache())

    def __call__(self, x: FloatArray, cache: list[Any]) -> tuple[Outputs, list[Any]]:
        """Compute the scores of audio [1, samples], and the new caches, which stay tensors of tract."""
        scores, *caches = self._model.run([x, *cache])
        return Outputs(np.asarray(scores.to_numpy())), caches
