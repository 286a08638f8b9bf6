"""Activation ranges: the least and the largest value of the activations of each quantised product over the
samples of a calibration, or narrower ranges, computed by ONNX Runtime's calibrators."""

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
from satexport.quantize.factors import Ranges
from satexport.quantize.observe import Observer, Sample, join_samples
from satexport.quantize.products import find_products
from satexport.runtimes import import_runtime

BATCH = 8  # samples per pass; the calibrator keeps all their tensors in memory


def find_ranges(graph: Graph, quantization: Quantization, samples: Sequence[Sample],
                together: int = 1) -> Ranges:
    """Return (least, largest) value by tensor for the activations of each product, as `quantization.ranges`
    says; {} for dynamic quantisation. `together` is the number of samples in a pass."""
    if quantization.method == "dynamic":
        return {}
    if quantization.ranges != "minmax":
        return _ranges_of_library(graph, quantization, samples)
    observer = Observer(graph.model, find_tensors(graph, quantization))
    with progress("find ranges", len(samples)) as advance:
        for first in range(0, len(samples), together):
            part = samples[first:first + together]
            observer.run(join_samples(part), [True] * len(part))
            advance(len(part))
    return ranges_of(observer, quantization)


def ranges_of(observer: Observer, quantization: Quantization) -> Ranges:
    """Return the ranges that an observer has noted, around zero if the int8 values are."""
    if not quantization.symmetric:
        return observer.ranges
    return {x: (-max(-low, high), max(-low, high)) for x, (low, high) in observer.ranges.items()}


def _ranges_of_library(graph: Graph, quantization: Quantization, samples: Sequence[Sample]) -> Ranges:
    """Return the ranges that one of ONNX Runtime's calibrators finds, which look at histograms."""
    library = import_runtime("onnxruntime.quantization.calibrate")
    kind, options = {
        "percentile": (library.PercentileCalibrater, {"percentile": quantization.percentile}),
        "entropy": (library.EntropyCalibrater, {}),
    }[quantization.ranges]
    tensors = find_tensors(graph, quantization)

    class Calibrator(kind):  # type: ignore[misc, valid-type]
        """The library's calibrator, only for these tensors."""

        def select_tensors_to_calibrate(self, graph: onnx.ModelProto) -> tuple[set[str], dict[str, Any]]:
            found, infos = super().select_tensors_to_calibrate(graph)
            return found & tensors, infos

    with tempfile.TemporaryDirectory() as folder, redirect_stdout(io.StringIO()):  # the library prints
        path = Path(folder) / "fp32.onnx"
        onnx.save(graph.model, path)
        calibrator = Calibrator(path, None, str(Path(folder) / "augmented.onnx"),
                                symmetric=quantization.symmetric, **options)
        calibrator.augment_graph()
        calibrator.create_inference_session()
        with progress("find ranges", len(samples)) as advance:
            for first in range(0, len(samples), BATCH):
                calibrator.collect_data(_Reader(samples[first:first + BATCH]))
                advance(len(samples[first:first + BATCH]))
        data = calibrator.compute_data()
    bounds = {x: [float(np.asarray(value).item()) for value in data[x].range_value] for x in tensors}
    return {x: (low, high) for x, (low, high) in bounds.items()}


def find_tensors(graph: Graph, quantization: Quantization) -> set[str]:
    """Return the tensors that are quantised: the activations of all products, and the results of convolutions
    under ONNX Runtime."""
    products = find_products(graph, quantization)
    results = {product.result for product in products if product.is_convolution}
    return {x for product in products for x in product.activations} | (
        results if quantization.scheme == "onnxruntime" else set())


class _Reader:
    """Samples one after another, with the interface that the library expects."""

    def __init__(self, samples: Sequence[Sample]) -> None:
        self._rest = iter(samples)

    def get_next(self) -> Sample | None:
        return next(self._rest, None)

    def __iter__(self) -> Iterator[Sample]:
        return self._rest

    def __next__(self) -> Sample:
        return next(self._rest)
