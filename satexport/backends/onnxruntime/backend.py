"""ONNX Runtime on a CPU: the graph as it is, its weights in a file of their own."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from satexport import facts
from satexport.backends.backend import Candidate, Draft, LoadOptions, Written, itself
from satexport.backends.onnxruntime import step
from satexport.bundle.contract import Contract
from satexport.bundle.folder import Bundle
from satexport.bundle.target import Target
from satexport.errors import MissingError

PACKAGE = step.PACKAGE
PRECISIONS: tuple[str, ...] = ("fp32", "int8")
QUANTIZATION: Mapping[str, object] = {}


def check(target: Target, where: Path) -> None:
    """It has no table of its own."""
    options = dict(target.options)
    facts.check_values([("onnxruntime", options, not options, "no such table, or an empty one")], where)


def resolve(target: Target) -> Target:
    if target.precision not in PRECISIONS:
        raise MissingError(f"target {target.name} wants {target.precision}, which ONNX Runtime has no "
                           f"kernels for on a CPU; expected {' or '.join(PRECISIONS)}.")
    return target


def accepts(contract: Contract, target: Target) -> None:
    """It takes every export."""


def write(folder: Path, draft: Draft) -> Written:
    from satexport.backends.onnxruntime.write import write_onnx

    return Written(graph=write_onnx(folder, draft.graph.model))


def candidates(bundle: Bundle, options: LoadOptions) -> Mapping[str, Candidate]:
    return itself(bundle, load(bundle, options))


def finish(bundle: Bundle) -> Mapping[str, Any] | None:
    return None


def load(bundle: Bundle, options: LoadOptions) -> step.OnnxRuntimeStep:
    return step.OnnxRuntimeStep(
        bundle.graph, bundle.contract, bundle.initial_cache(), options.threads or bundle.target.threads,
        low_memory=options.low_memory, share_cores=options.share_cores)
