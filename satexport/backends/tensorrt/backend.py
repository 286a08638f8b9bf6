"""TensorRT: a build bundle for a board, whose graphs are proven here by ONNX Runtime, and engines on it; or
an engine for desktop GPUs by TensorRT for RTX, which builds without one."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from satexport import facts
from satexport.backends.backend import (
    Candidate,
    Draft,
    LoadOptions,
    Written,
    complete_options,
    precision_conditions,
)
from satexport.backends.tensorrt import step
from satexport.backends.tensorrt.engine import import_tensorrt
from satexport.backends.tensorrt.settings import RTX_MODULE, TensorRtSettings, conditions
from satexport.bundle.contract import ANY, Contract
from satexport.bundle.folder import Bundle
from satexport.bundle.target import Target
from satexport.errors import UsageError

PACKAGE = step.PACKAGE
PRECISIONS: tuple[str, ...] = ("int8", "fp16")
QUANTIZATION: Mapping[str, object] = {
    "method": "static", "scheme": "qdq", "symmetric": True, "scales": "fp16", "per_channel": True}
TWIN = "fp16"  # beside an int8 graph: the board keeps the faster


def check(target: Target, where: Path) -> None:
    settings = TensorRtSettings.of(target, where)
    facts.check_values(precision_conditions(target, PRECISIONS, QUANTIZATION), where)
    facts.check_values(conditions(target, settings), where)


def resolve(target: Target) -> Target:
    """The runtime of a board is not needed here; that of RTX is."""
    settings = TensorRtSettings.of(target)
    if settings.module == RTX_MODULE:
        import_tensorrt(RTX_MODULE)
    return replace(target, options=complete_options(settings))


def accepts(contract: Contract, target: Target) -> None:
    """Its opset is checked with the rest of the graph, by `satexport.backends.tensorrt.rules`."""
    if contract.options.streams == ANY:
        raise UsageError("the export is for any number of streams, an engine has fixed shapes: export with "
                         "--streams N.")
    if contract.options.cache_dtype != "fp32":
        raise UsageError(f"target {target.name} is for TensorRT, which keeps the cache as fp32: leave "
                         "--cache-dtype out.")


def write(folder: Path, draft: Draft) -> Written:
    from satexport.backends.onnxruntime.step import OnnxRuntimeStep
    from satexport.backends.tensorrt.write import write_build_bundle

    graphs = write_build_bundle(folder, {TWIN: draft.fp32, draft.target.precision: draft.graph},
                                TensorRtSettings.of(draft.target))
    steps = {precision: OnnxRuntimeStep(graph.model.SerializeToString(), draft.contract, draft.initial_cache,
                                        optimized=False) for precision, graph in graphs.items()}
    return Written(graph=f"{draft.target.precision}.onnx", built_elsewhere=steps)


def candidates(bundle: Bundle, options: LoadOptions) -> Mapping[str, Candidate]:
    """The graphs under ONNX Runtime with its optimisation off: the target's own, and the twin, which is held
    to what a twin must keep. An engine computes what its graph says; optimised, ONNX Runtime would compute
    with kernels and roundings of its own."""
    from satexport.backends.onnxruntime.step import OnnxRuntimeStep  # not on a board

    target, found = bundle.target, {}
    for precision in dict.fromkeys((target.precision, TWIN)):
        gates = target.gates
        if precision != target.precision:
            gates = replace(gates, map_kept=TensorRtSettings.of(target).twin_map_kept)
        graph = f"{precision}.onnx"
        under_onnxruntime = OnnxRuntimeStep(
            bundle.path / graph, bundle.contract, bundle.initial_cache(), options.threads, optimized=False,
            share_cores=options.share_cores)
        found[precision] = Candidate(
            step=under_onnxruntime, gates=gates, report=f"parity-onnx-{precision}.json",
            facts={"graph": graph, "runtime": "ONNX Runtime, graph optimisation disabled"})
    return found


def finish(bundle: Bundle) -> Mapping[str, Any] | None:
    """The engine for RTX."""
    from satexport.backends.tensorrt.write import build_for_rtx

    return build_for_rtx(bundle) if TensorRtSettings.of(bundle.target).module == RTX_MODULE else None


def load(bundle: Bundle, options: LoadOptions) -> step.TensorRtStep:
    """It has no threads to count and no memory to give back."""
    return step.load_engine(bundle)
