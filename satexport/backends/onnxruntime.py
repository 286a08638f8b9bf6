"""ONNX Runtime on a CPU."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from satexport.backends import FloatArray
from satexport.bundle import Bundle
from satexport.contract import Contract
from satexport.errors import BundleError, MissingError, RunError


class OnnxRuntimeStep:
    """A graph under ONNX Runtime; the cache is a list of arrays in the order of the contract."""

    def __init__(self, graph: Path | bytes, contract: Contract, cache: list[FloatArray],
                 threads: int = 0) -> None:
        try:
            import onnxruntime
        except ImportError:
            raise MissingError("ONNX Runtime is not installed: "
                               "pip install 'satexport[cpu]'.") from None
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = threads
        options.log_severity_level = 3  # errors only: they come as exceptions
        source = graph if isinstance(graph, bytes) else str(graph)
        try:
            self._session = onnxruntime.InferenceSession(
                source, options, providers=["CPUExecutionProvider"])
        except Exception as error:  # its exceptions have no common class but this
            raise BundleError(f"ONNX Runtime {onnxruntime.__version__} cannot load "
                              f"{'the graph' if isinstance(graph, bytes) else graph}: "
                              f"{_first_line(error)}") from None
        if self._session.get_modelmeta().custom_metadata_map != contract.to_metadata():
            raise BundleError(f"{graph if isinstance(graph, Path) else 'the graph'}: its metadata "
                              "is not the contract it is used with. Export the bundle again.")
        self._initial = cache
        self._audio = contract.audio
        self._names = [spec.name for spec in contract.cache_in]
        self._outputs = [contract.scores.name, *(spec.name for spec in contract.cache_out)]

    def initial_cache(self) -> list[FloatArray]:
        return self._initial

    def __call__(self, audio: FloatArray, cache: list[FloatArray]) -> tuple[FloatArray, Any]:
        feeds = {self._audio.name: audio.reshape(self._audio.shape)}
        feeds.update(zip(self._names, cache, strict=True))
        try:
            scores, *new = self._session.run(self._outputs, feeds)
        except Exception as error:
            raise RunError(f"ONNX Runtime failed in a step: {_first_line(error)}") from None
        return scores[0], new


def load(bundle: Bundle, threads: int) -> OnnxRuntimeStep:
    """Load a bundle's ONNX graph; `threads` 0 lets ONNX Runtime decide."""
    return OnnxRuntimeStep(bundle.graph, bundle.contract, bundle.initial_cache(), threads)


def _first_line(error: Exception) -> str:
    return str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
