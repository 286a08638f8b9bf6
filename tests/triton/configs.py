"""Configs of real models, and where those are that passed."""

from __future__ import annotations

from satexport.bundle.contract import ANY, CheckpointOrigin, Contract, GraphOptions
from satexport.models.families import find_variant
from satexport.pipeline.export import make_contract
from satexport.triton.config import ModelFacts, config_text
from satexport.triton.serving import Serving, find_serving
from tests import ROOT

PASSED = ROOT / "tests" / "data" / "triton"  # read by tritonclient's own message and by the real server
CPU, GPU = find_serving("triton-cpu"), find_serving("triton-gpu")
NAMES = ("caches", "window", "engine")


def contract_of(model: str = "sat-t", delay: int = 2, window: int | None = None, streams: int = ANY,
                embedding: str = "") -> Contract:
    """The contract of a model with AudioSet's classes, nothing exported."""
    return make_contract(find_variant(model, delay, window), 527,
                         GraphOptions(streams=streams, embedding=embedding), labels_sha256=64 * "1",
                         checkpoint=CheckpointOrigin(name="mine.pt", source="file", sha256=64 * "2"))


def text_of(contract: Contract, serving: Serving = CPU, name: str = "m", runtime: str = "onnxruntime") -> str:
    return config_text(contract, serving, ModelFacts(
        name=name, runtime=runtime, target="my-target", precision="fp32", bundle_sha256=64 * "0",
        version="0.1.0"))


def example(name: str) -> str:
    """The config in the file of this name: a model with caches, one with a window, an engine."""
    if name == "engine":
        return text_of(contract_of(streams=1), GPU, name, "tensorrt")
    return text_of(contract_of("vit-t", 1, 10) if name == "window" else contract_of(), CPU, name)
