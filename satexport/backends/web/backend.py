"""ONNX Runtime Web in a browser: a folder of static files."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from satexport import facts
from satexport.backends.backend import Candidate, Draft, LoadOptions, WrittenGraphs, single_candidate
from satexport.backends.web import browser, step
from satexport.backends.web.runtime import find_runtime
from satexport.bundle.contract import Contract
from satexport.bundle.folder import Bundle
from satexport.bundle.target import Target
from satexport.bundle.threads import live_threads
from satexport.errors import MissingError, UsageError

PACKAGE = browser.PACKAGE
PRECISIONS: tuple[str, ...] = ("fp32", "int8")
CAN_SPIN = False
SKIPPED_IF_MISSING = True
QUANTIZATION: Mapping[str, object] = {}


def check(target: Target, where: Path) -> None:
    """This backend has no table of its own."""
    options = dict(target.options)
    facts.check_values([("web", options, not options, "no table [web], or an empty one")], where)


def resolve(target: Target) -> Target:
    """Fetch the runtime, so that a missing one is said before the work."""
    if target.precision not in PRECISIONS:
        raise MissingError(f"target {target.name} has the precision {target.precision}, for which ONNX "
                           f"Runtime Web has no CPU kernels; expected {' or '.join(PRECISIONS)}.")
    find_runtime()
    return target


def remark(target: Target) -> str:
    """Code for browsers multiplies in 16 bits."""
    return ""


def check_contract(contract: Contract, target: Target) -> None:
    options = contract.options
    if options.streams != 1:
        raise UsageError(f"target {target.name} is for a page, which runs any number of streams beside each "
                         "other, each in steps of its own: export without --streams.")
    if options.input != "audio":
        raise UsageError(f"target {target.name} is for a page, which has audio and no {options.input}: "
                         "export with --input audio.")
    if options.cache_dtype != "fp32":
        raise UsageError(f"target {target.name} is for a page, which keeps the cache in fp32: leave "
                         "--cache-dtype out.")


def write(folder: Path, draft: Draft) -> WrittenGraphs:
    from satexport.backends.web.write import write_bundle_files

    return WrittenGraphs(graph=write_bundle_files(folder, draft.graph.model))


def candidates(bundle: Bundle, options: LoadOptions) -> Mapping[str, Candidate]:
    return single_candidate(bundle, load(bundle, options))


def finish(bundle: Bundle) -> Mapping[str, Any] | None:
    from satexport.backends.web.sizes import report_sizes

    return report_sizes(bundle)


def load(bundle: Bundle, options: LoadOptions) -> step.WebStep:
    """Load the folder in headless Chromium. `low_memory` and `spinning` have no effect."""
    return step.WebStep(bundle, options.threads or live_threads(bundle))
