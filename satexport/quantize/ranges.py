"""Ranges: the least and largest value of what a quantised product multiplies, over the samples of a
calibration, as ONNX Runtime's calibrators find them."""

from __future__ import annotations

import io
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import redirect_stdout
from pathlib import Path
from typing import Any

import numpy as np
import onnx

from satexport.bundle.target import Quantization
from satexport.graph.roles import Graph
from satexport.progress import progress
from satexport.quantize.calibrate import Sample
from satexport.quantize.int8 import Ranges
from satexport.quantize.products import products
from satexport.runtimes import import_runtime

BATCH = 8  # samples whose tensors are held at a time


def find_ranges(graph: Graph, wanted: Quantization, samples: Sequence[Sample]) -> Ranges:
    """The least and largest value of each product's activations, as ONNX Runtime's calibrator of the chosen
    method finds them over the samples; {} for dynamic quantisation."""
    if wanted.method == "dynamic":
        return {}
    library = import_runtime("onnxruntime.quantization.calibrate")
    kind, options = {
        "minmax": (library.MinMaxCalibrater, {}),
        "percentile": (library.PercentileCalibrater, {"percentile": wanted.percentile}),
        "entropy": (library.EntropyCalibrater, {}),
    }[wanted.ranges]
    inputs = {x for product in products(graph, wanted) for x in product.activations}

    class Calibrator(kind):  # type: ignore[misc, valid-type]
        """The library's, for those tensors alone."""

        def select_tensors_to_calibrate(self, graph: onnx.ModelProto) -> tuple[set[str], dict[str, Any]]:
            tensors, infos = super().select_tensors_to_calibrate(graph)
            return tensors & inputs, infos

    # the library prints
    with tempfile.TemporaryDirectory() as folder, redirect_stdout(io.StringIO()):
        path = Path(folder) / "fp32.onnx"
        onnx.save(graph.model, path)
        calibrator = Calibrator(path, None, str(Path(folder) / "augmented.onnx"),
                                symmetric=wanted.symmetric, **options)
        calibrator.augment_graph()
        calibrator.create_inference_session()
        with progress("ranges", len(samples)) as advance:
            for first in range(0, len(samples), BATCH):
                calibrator.collect_data(_Reader(samples[first:first + BATCH]))
                advance(len(samples[first:first + BATCH]))
        found = calibrator.compute_data()
    bounds = {x: [float(np.asarray(value).item()) for value in found[x].range_value] for x in inputs}
    return {x: (low, high) for x, (low, high) in bounds.items()}


class _Reader:
    """Samples one after another, as the library asks for them."""

    def __init__(self, samples: Sequence[Sample]) -> None:
        self._rest = iter(samples)

    def get_next(self) -> Sample | None:
        return next(self._rest, None)

    def __iter__(self) -> Iterator[Sample]:
        return self._rest

    def __next__(self) -> Sample:
        return next(self._rest)
