"""OpenVINO on a CPU: the graph as an IR whose states start from the cache after silence."""

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
    single_candidate,
)
from satexport.backends.openvino import step
from satexport.backends.openvino.settings import OpenVinoSettings, conditions
from satexport.bundle.contract import ANY, Contract
from satexport.bundle.folder import Bundle
from satexport.bundle.target import Target
from satexport.bundle.threads import live_threads
from satexport.errors import UsageError
from satexport.origin import read_cpu

PACKAGE = step.PACKAGE
TARGET_7_BITS = "openvino-int8-avx2"  # whose products do not saturate on any CPU
PRECISIONS: tuple[str, ...] = ("fp32", "bf16", "int8")
CAN_SPIN = False
SKIPPED_IF_MISSING = False
QUANTIZATION: Mapping[str, object] = {"method": "static", "scheme": "qdq"}


def check(target: Target, where: Path) -> None:
    settings = OpenVinoSettings.of(target, where)
    facts.check_values(precision_conditions(target, PRECISIONS, QUANTIZATION), where)
    facts.check_values(conditions(target, settings), where)


def resolve(target: Target) -> Target:
    """Replace `floats = "auto"` with the precision that this machine supports."""
    settings = OpenVinoSettings.of(target)
    floats = step.resolve_float_precision(target, settings)
    return replace(target, options=complete_options(replace(settings, floats=floats)))


def remark(target: Target) -> str:
    """8-bit weights on an x86 CPU without dot-product instructions, unless another device computes."""
    int8, cpu = target.quantization, read_cpu()
    is_elsewhere = OpenVinoSettings.of(target).device != step.CPU
    if not cpu.saturates or not int8 or int8.weight_bits < 8 or is_elsewhere:
        return ""
    return (f"{cpu.name} has no dot-product instructions for int8 (VNNI). There sums of OpenVINO's products "
            f"with 8-bit weights may saturate, so that scores differ from those on a CPU that has them. With "
            f"the target {TARGET_7_BITS}, or your own with weight_bits = 7, they cannot.")


def check_contract(contract: Contract, target: Target) -> None:
    requests, streams = OpenVinoSettings.of(target).requests, contract.options.streams
    if streams != ANY and streams % requests:
        raise UsageError(f"target {target.name} shares the streams of a step among {requests} requests, and "
                         f"the export has {streams} streams; expected a multiple of {requests}. Export with "
                         "such a number of --streams, or with --streams dynamic.")
    if contract.options.cache_dtype != "fp32":
        raise UsageError(f"target {target.name} is for OpenVINO, which keeps the cache in fp32: leave "
                         "--cache-dtype out.")


def write(folder: Path, draft: Draft) -> WrittenGraphs:
    from satexport.backends.openvino.write import write_ir

    return WrittenGraphs(graph=write_ir(
        folder, draft.graph, draft.contract, OpenVinoSettings.of(draft.target), draft.initial_cache,
        draft.int8_products))


def candidates(bundle: Bundle, options: LoadOptions) -> Mapping[str, Candidate]:
    return single_candidate(bundle, load(bundle, options))


def finish(bundle: Bundle) -> Mapping[str, Any] | None:
    return None


def load(bundle: Bundle, options: LoadOptions) -> step.OpenVinoStep:
    """Load the IR. `low_memory` and `spinning` have no effect: OpenVINO allocates all tensors of a request
    when it creates it, and its threads spin only for a moment."""
    settings = OpenVinoSettings.of(bundle.target)
    model_cache = step.model_cache_folder(bundle) if settings.model_cache else None
    return step.OpenVinoStep(bundle.graph, bundle.contract, bundle.initial_cache(), settings,
                             options.threads or live_threads(bundle), model_cache)
