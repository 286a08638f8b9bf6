"""ONNX's reference evaluator as a backend: a new runtime needs this file and a line in BACKENDS."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from satexport import facts
from satexport.backends.backend import (
    Candidate,
    Draft,
    LoadOptions,
    WrittenGraphs,
    complete_options,
    precision_conditions,
    read_settings,
    single_candidate,
)
from satexport.bundle.contract import ANY, Contract
from satexport.bundle.folder import Bundle
from satexport.bundle.target import Target
from satexport.errors import UsageError
from satexport.process import ProcessBound
from satexport.step import FloatArray, Outputs

PACKAGE = "onnx"
PRECISIONS: tuple[str, ...] = ("fp32", "int8")
CAN_SPIN = False
SKIPPED_IF_MISSING = False
QUANTIZATION: Mapping[str, object] = {"scheme": "qdq"}
GRAPH = "graph.onnx"


@dataclass(frozen=True)
class Settings:
    """The table [evaluator] of a target."""

    most_streams: int = 2
    verbose: int = 0


class EvaluatorStep(ProcessBound):
    """Runs a graph node by node in numpy; the cache is a list of arrays."""

    def __init__(self, graph: Path, contract: Contract, cache: Iterable[NDArray[Any]], verbose: int) -> None:
        from onnx.reference import ReferenceEvaluator

        super().__init__()
        self._graph: Any = ReferenceEvaluator(str(graph), verbose=verbose)
        self._contract, self._initial = contract, list(cache)

    def initial_cache(self, streams: int) -> list[NDArray[Any]]:
        return [np.repeat(one, streams, axis=0) for one in self._initial]

    def __call__(self, x: FloatArray, cache: list[NDArray[Any]]) -> tuple[Outputs, list[NDArray[Any]]]:
        self.check_process()
        contract = self._contract
        feeds = {contract.input.name: x}
        feeds |= zip((spec.name for spec in contract.cache_in), cache, strict=True)
        specs, count = (*contract.outputs, *contract.cache_out), len(contract.outputs)
        results = self._graph.run([spec.name for spec in specs], feeds)
        return Outputs(*results[:count]), results[count:]

    def silence(self, cache: list[NDArray[Any]], stream: int) -> list[NDArray[Any]]:
        for array, initial in zip(cache, self._initial, strict=True):
            array[stream] = initial[0]
        return cache

    def executed(self) -> dict[str, dict[str, int]]:
        return {}

    def close(self) -> None:
        self._graph, self.is_closed = None, True


def check(target: Target, where: Path) -> None:
    settings = read_settings(Settings, target, where)
    facts.check_values(precision_conditions(target, PRECISIONS, QUANTIZATION), where)
    most = settings.most_streams
    facts.check_values([("most_streams", most, most > 0, "a number from 1")], where)


def resolve(target: Target) -> Target:
    return replace(target, options=complete_options(read_settings(Settings, target, Path("[evaluator]"))))


def remark(target: Target) -> str:
    return ""


def check_contract(contract: Contract, target: Target) -> None:
    if contract.options.streams == ANY or contract.options.streams > target.options["most_streams"]:
        raise UsageError("the evaluator is too slow for that many streams")
    if contract.options.cache_dtype != "fp32":
        raise UsageError("the evaluator keeps the cache as fp32: leave --cache-dtype out")


def write(folder: Path, draft: Draft) -> WrittenGraphs:
    import onnx

    onnx.save_model(draft.graph.model, folder / GRAPH)
    return WrittenGraphs(graph=GRAPH)


def candidates(bundle: Bundle, options: LoadOptions) -> Mapping[str, Candidate]:
    return single_candidate(bundle, load(bundle, options))


def finish(bundle: Bundle) -> Mapping[str, Any] | None:
    return {"summary": f"{bundle.graph.name} is finished."}


def load(bundle: Bundle, options: LoadOptions) -> EvaluatorStep:
    return EvaluatorStep(bundle.graph, bundle.contract, bundle.initial_cache(),
                         bundle.target.options["verbose"])
