"""`config.json`: what transformers.js reads, and the contract for programs that feed the graphs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from satexport.bundle.contract import ANY, Contract, TensorSpec
from satexport.files import sha256_of
from satexport.publish.layout import CARD, CONFIG, INITIAL_CACHE
from satexport.publish.parts import Part
from satexport.version import __version__

KEY = "satexport"    # of satexport's own part
MODEL_TYPE = "custom"  # the type for which transformers.js passes on inputs and outputs as they are


def config_of(parts: Sequence[Part], files: Mapping[str, str]) -> dict[str, Any]:
    """Return the content of config.json; `files` has the SHA-256 of all other files by path. That of the
    model card, which its publisher may edit, is apart."""
    labels = parts[0].bundle.labels
    return {
        "model_type": MODEL_TYPE,
        "id2label": {str(number): label for number, label in enumerate(labels)},
        "label2id": {label: number for number, label in enumerate(labels)},
        "transformers.js_config": {"dtype": usual_precision(parts)},
        KEY: {**describe_contract(parts[0].bundle.contract),
              "graphs": {part.precision: _describe_graph(part) for part in parts},
              "files": {name: files[name] for name in sorted(files) if name != CARD},
              "card_sha256": files[CARD], "version": __version__}}


def usual_precision(parts: Sequence[Part]) -> str:
    """Return the precision that transformers.js takes if its user names none: the smallest graph that is
    proven, or the first one."""
    proven = [part for part in parts if part.verdict == "passed"]
    return min(proven or parts[:1], key=lambda part: part.bundle.graph_bytes).precision


def describe_contract(contract: Contract) -> dict[str, Any]:
    """Return what a program must know to feed the graphs. Shapes are those of one stream; `streams` is the
    number in a step, "any" if their first dimension is free."""
    origin, streams = contract.checkpoint, contract.options.streams
    return {
        "family": contract.family, "variant": contract.variant, "streaming": contract.streaming,
        "sample_rate": contract.sample_rate, "window_samples": contract.window_samples,
        "hop_samples": contract.hop_samples, "memory_steps": contract.memory_steps,
        "streams": "any" if streams == ANY else streams,
        "input": _describe_tensor(contract.input),
        "outputs": [_describe_tensor(spec) for spec in contract.outputs],
        "cache": [{"input": old.name, "output": new.name, "shape": one_stream(old), "dtype": old.dtype}
                  for old, new in zip(contract.cache_in, contract.cache_out, strict=True)],
        "initial_cache": INITIAL_CACHE if contract.cache_in else None,
        "embedding": contract.options.embedding or None,
        "front_end": contract.front_end,
        "checkpoint": {"name": origin.name, "source": origin.source, "sha256": origin.sha256}}


def one_stream(spec: TensorSpec) -> list[int]:
    """The shape of a tensor for one stream."""
    return [1, *spec.shape[1:]]


def _describe_tensor(spec: TensorSpec) -> dict[str, Any]:
    return {"name": spec.name, "shape": one_stream(spec), "dtype": spec.dtype}


def _describe_graph(part: Part) -> dict[str, Any]:
    bundle = part.bundle
    return {"file": part.file, "target": bundle.target.name, "opset": bundle.contract.opset,
            "exporter": bundle.contract.exporter, "bundle_sha256": bundle.sha256}


def hashes(folder: Path) -> dict[str, str]:
    """Return the SHA-256 of all files in a folder by path, without that of config.json."""
    return {name: sha256_of(path) for path in sorted(folder.rglob("*")) if path.is_file()
            and (name := path.relative_to(folder).as_posix()) != CONFIG}
