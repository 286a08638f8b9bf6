"""ExecuTorch with XNNPACK in fp32: the network from its features on, with the published cache."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path

import numpy as np
import torch

from benchmarks.peers.peer import WEIGHTS, Case, Store
from benchmarks.peers.published import FeatureStep, FromFeatures, example, initial_of, load_published
from satexport.step import FloatArray, Step

SOURCES = ("benchmarks/peers/executorch.*", "benchmarks/peers/published.py", *WEIGHTS)
FILE = "model.pte"


@dataclass(frozen=True)
class ExecuTorch:
    """A program that ExecuTorch's XNNPACK delegate runs."""

    name = "executorch"
    title = "ExecuTorch, XNNPACK"
    precision = "fp32"
    environment = "executorch"
    starts_from_zeros = False
    packages = ("executorch", "torch")
    is_ours = False

    def prepare(self, case: Case, store: Store) -> Path:
        return store.make(self.name, case, SOURCES, lambda stage: _build(case, stage))

    def load(self, case: Case, folder: Path, threads: int) -> Step:
        import_module("executorch.extension.pybindings.portable_lib")._unsafe_reset_threadpool(threads)
        runtime = import_module("executorch.runtime")
        method = runtime.Runtime.get().load_program(folder / FILE).load_method("forward")
        model = load_published(case).model

        def run(inputs: Sequence[FloatArray]) -> list[FloatArray]:
            outputs = method.execute([torch.from_numpy(array) for array in inputs])
            return [np.asarray(output.numpy().copy()) for output in outputs]

        return FeatureStep(model, run, initial_of(example(model)))


def _build(case: Case, stage: Path) -> None:
    """Write the program, which takes minutes for a large model."""
    lower = import_module("executorch.exir").to_edge_transform_and_lower
    xnnpack = import_module("executorch.backends.xnnpack.partition.xnnpack_partitioner")
    model = load_published(case).model
    program = torch.export.export(FromFeatures(model).eval(), example(model))
    with (stage / FILE).open("wb") as file:
        lower(program, partitioner=[xnnpack.XnnpackPartitioner()]).to_executorch().write_to_file(file)
