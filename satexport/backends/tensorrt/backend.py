"""TensorRT: a build bundle, from which a board builds its engines and whose graphs are tested here under ONNX
Runtime; or an engine for desktop GPUs, which TensorRT for RTX builds without a GPU."""

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
    WrittenGraphs,
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
CAN_SPIN = False
SKIPPED_IF_MISSING = False
QUANTIZATION: Mapping[str, object] = {
    "method": "static", "scheme": "qdq", "symmetric": True, "scales": "fp16", "per_channel": True}
TWIN = "fp16"  # precision of the second graph next to an int8 graph: the board keeps the faster engine


def check(target: Target, where: Path) -> None:
    settings = TensorRtSettings.of(target, where)
    facts.check_values(precision_conditions(target, PRECISIONS, QUANTIZATION), where)
    facts.check_values(conditions(target, settings), where)


def resolve(target: Target) -> Target:
    """TensorRT for RTX must be installed on this machine; TensorRT for a board need not be."""
    settings = TensorRtSettings.of(target)
    if settings.module == RTX_MODULE:
        import_tensorrt(RTX_MODULE)
    return replace(target, options=complete_options(settings))


def remark(target: Target) -> str:
    """An engine computes on a GPU, and its graphs are proven here without int8 products."""
    return ""


def check_contract(contract: Contract, target: Target) -> None:
    """The opset is checked with the rest of the graph by `satexport.backends.tensorrt.rules`."""
    if contract.options.streams == ANY:
        raise UsageError("the export is for any number of streams, but an engine has fixed shapes: export "
                         "with --streams N.")
    if contract.options.cache_dtype != "fp32":
        raise UsageError(f"target {target.name} is for TensorRT, which keeps the cache in fp32: leave "
                         "--cache-dtype out.")


def write(folder: Path, draft: Draft) -> WrittenGraphs:
    from satexport.backends.onnxruntime.step import OnnxRuntimeStep
    from satexport.backends.tensorrt.write import write_build_bundle

    graphs = write_build_bundle(folder, {TWIN: draft.fp32, draft.target.precision: draft.graph},
                                TensorRtSettings.of(draft.target))
    steps = {precision: OnnxRuntimeStep(graph.model.SerializeToString(), draft.contract, draft.initial_cache,
                                        optimized=False) for precision, graph in graphs.items()}
    return WrittenGraphs(graph=f"{draft.target.precision}.onnx", built_elsewhere=steps)


def candidates(bundle: Bundle, options: LoadOptions) -> Mapping[str, Candidate]:
    """The graphs under ONNX Runtime with graph optimisation off: the target's own and its fp16 twin, which
    has its own limit for the mAP. An engine computes what its graph says; an optimised ONNX Runtime would use
    other kernels, which round differently."""
    from satexport.backends.onnxruntime.step import OnnxRuntimeStep  # not available on a board

    target, tested = bundle.target, {}
    for precision in dict.fromkeys((target.precision, TWIN)):
        gates = target.gates
        if precision != target.precision:
            gates = replace(gates, map_kept=TensorRtSettings.of(target).twin_map_kept)
        graph = f"{precision}.onnx"
        under_onnxruntime = OnnxRuntimeStep(
            bundle.path / graph, bundle.contract, bundle.initial_cache(), options.threads, optimized=False,
            spinning=options.spinning)
        tested[precision] = Candidate(
            step=under_onnxruntime, gates=gates, report=f"parity-onnx-{precision}.json",
            facts={"graph": graph, "runtime": "ONNX Runtime, graph optimisation disabled"})
    return tested


def finish(bundle: Bundle) -> Mapping[str, Any] | None:
    """Build the engine for RTX."""
    from satexport.backends.tensorrt.write import build_for_rtx

    return build_for_rtx(bundle) if TensorRtSettings.of(bundle.target).module == RTX_MODULE else None


def load(bundle: Bundle, options: LoadOptions) -> step.TensorRtStep:
    """Load the engine. The options have no effect: an engine has no CPU threads and no memory to free."""
    return step.load_engine(bundle)
