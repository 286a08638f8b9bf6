"""ONNX Runtime on a CPU: the graph with nodes of this runtime, its weights in a separate file."""

from __future__ import annotations

import platform
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from satexport import facts
from satexport.backends.backend import Candidate, Draft, LoadOptions, WrittenGraphs, single_candidate
from satexport.backends.onnxruntime import step
from satexport.bundle.contract import Contract
from satexport.bundle.folder import Bundle
from satexport.bundle.roles import ATTENTION
from satexport.bundle.target import Target
from satexport.bundle.threads import live_threads
from satexport.errors import MissingError
from satexport.origin import read_cpu

PACKAGE = step.PACKAGE
TARGET_7_BITS = "cpu-int8-avx2"  # whose products do not saturate on any CPU
PRECISIONS: tuple[str, ...] = ("fp32", "int8")
CAN_SPIN = True
SKIPPED_IF_MISSING = False
QUANTIZATION: Mapping[str, object] = {}


def check(target: Target, where: Path) -> None:
    """This backend has no table of its own."""
    options = dict(target.options)
    facts.check_values([
        ("onnxruntime", options, not options, "no table [onnxruntime], or an empty one")], where)


def resolve(target: Target) -> Target:
    if target.precision not in PRECISIONS:
        raise MissingError(f"target {target.name} has the precision {target.precision}, for which ONNX "
                           f"Runtime has no CPU kernels; expected {' or '.join(PRECISIONS)}.")
    return target


def remark(target: Target) -> str:
    """8-bit weights on an x86 CPU without dot-product instructions, unless the target is for another
    machine."""
    int8, cpu = target.quantization, read_cpu()
    is_elsewhere = target.machine not in ("", platform.machine())
    if not cpu.saturates or not int8 or int8.weight_bits < 8 or is_elsewhere:
        return ""
    text = (f"{cpu.name} has no dot-product instructions for int8 (VNNI). There ONNX Runtime computes "
            f"products with 8-bit weights by slower instructions, which do not saturate: the scores are "
            f"right, but the target {TARGET_7_BITS}, or your own with weight_bits = 7, is faster.")
    if ATTENTION in int8.operators and int8.method == "static":
        text += " The products of attention saturate nevertheless, and change the scores."
    return text


def check_contract(contract: Contract, target: Target) -> None:
    """This backend runs every export."""


def write(folder: Path, draft: Draft) -> WrittenGraphs:
    from satexport.backends.onnxruntime.write import fuse
    from satexport.graph.files import write_with_weights

    return WrittenGraphs(graph=write_with_weights(folder, fuse(draft)))


def candidates(bundle: Bundle, options: LoadOptions) -> Mapping[str, Candidate]:
    return single_candidate(bundle, load(bundle, options))


def finish(bundle: Bundle) -> Mapping[str, Any] | None:
    return None


def load(bundle: Bundle, options: LoadOptions) -> step.OnnxRuntimeStep:
    return step.OnnxRuntimeStep(
        bundle.graph, bundle.contract, bundle.initial_cache(), options.threads or live_threads(bundle),
        low_memory=options.low_memory, spinning=options.spinning)
