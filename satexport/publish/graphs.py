"""The graphs of bundles as single files: transformers.js and most programs look for the weights inside."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from satexport.backends.onnxruntime.step import OnnxRuntimeStep, checked_path
from satexport.bundle.folder import Bundle
from satexport.errors import BundleError, RunError, UsageError, requires_extra
from satexport.files import sha256_of, write_bytes
from satexport.parity.golden import golden_outputs, proof_streams
from satexport.publish.layout import MAX_GRAPH
from satexport.step import Outputs

if TYPE_CHECKING:
    import onnx


def write_graph(bundle: Bundle, path: Path) -> None:
    """Write the graph of a bundle with its weights into one file. If the bundle has them in two files, the
    new one must give the same scores for the golden chunks, bit by bit.

    Raises `UsageError` if one file cannot hold them, `BundleError` if the bundle was changed since it was
    opened or its graph cannot be read, `MissingError` if onnx or ONNX Runtime is needed and not installed,
    `RunError` if the scores differ or the file cannot be written.
    """
    if bundle.graph_bytes > MAX_GRAPH:
        raise UsageError(f"{bundle.path} has a graph of {bundle.graph_bytes / 1e9:.1f} GB with its weights; "
                         f"one file can have at most {MAX_GRAPH / 1e9:g} GB. Choose a smaller model, or "
                         "a bundle in int8.")
    parts = [name for name in bundle.files if name.startswith(f"{bundle.graph.stem}.")]
    if parts == [bundle.graph.name]:
        write_bytes(path, bundle.graph.read_bytes())
        _check_unchanged(bundle, parts, path)
        return
    model = _read_whole(bundle)
    _check_unchanged(bundle, parts)
    write_bytes(path, model.SerializeToString(deterministic=True))
    del model
    _compare(bundle, path)


def _check_unchanged(bundle: Bundle, parts: list[str], copy: Path | None = None) -> None:
    """Raise `BundleError` if files of a bundle, or the copy of its only one, are not those that were
    opened."""
    for name in parts:
        if sha256_of(copy or bundle.path / name) != bundle.files[name]:
            raise BundleError(f"{bundle.path / name} was overwritten while it was read. Try again.")


def _read_whole(bundle: Bundle) -> onnx.ModelProto:
    """Read a graph and its weights."""
    with requires_extra("export"):
        import onnx
    path = checked_path(bundle.graph)
    try:
        return onnx.load(path)
    except Exception as error:  # the only class that errors of onnx and protobuf share
        raise BundleError(f"{bundle.graph} cannot be read ({error}). Make the bundle again.") from None


def _compare(bundle: Bundle, path: Path) -> None:
    """Raise `RunError` if a graph does not give the same outputs as that of the bundle."""
    before, after = (_run(bundle, graph) for graph in (bundle.graph, path))
    for name, array in before.arrays().items():
        if not np.array_equal(array, after.arrays()[name]):
            largest = float(np.abs(array - after.arrays()[name]).max())
            raise RunError(f"{bundle.path}: with its weights in one file, the graph gives other {name}: "
                           f"{largest:.1e} over the golden chunks, expected none. This is an error of "
                           "satexport or of ONNX Runtime; please report it.")


def _run(bundle: Bundle, graph: Path) -> Outputs:
    """Return the outputs of a graph for the golden chunks."""
    step = OnnxRuntimeStep(graph, bundle.contract, bundle.initial_cache(), threads=1)
    try:
        return golden_outputs(proof_streams(step, bundle.contract), bundle.golden()[0])
    finally:
        step.close()
