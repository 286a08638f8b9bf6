"""Bundles that Triton can serve, or not."""

from __future__ import annotations

from dataclasses import fields, replace
from pathlib import Path
from typing import Any

from satexport.bundle.folder import open_bundle
from satexport.files import sha256_of, write_json
from satexport.targets import find_target
from tests.bundle.copies import change_bundle, copy_of, reseal
from tests.commands.calls import call
from tests.tiny import SAT
from tests.triton.configs import contract_of

NAME = "sat-t-48x3x3-2s"
ENGINE = "fp16.engine"


def bundle_of(lanes: Path, folder: Path, model: str = SAT, delay: int = 2, window: int | None = None,
              streams: int = 1) -> Path:
    """A copy of a bundle whose contract says that it is another one; its graph is as it was, because to
    export one takes seconds."""
    path, own = copy_of(lanes, folder / f"{model}-{streams}"), open_bundle(lanes).contract
    contract = replace(contract_of(model, delay, window, streams), labels_sha256=own.labels_sha256,
                       checkpoint=own.checkpoint)
    reseal(path, **{field.name: getattr(contract, field.name) for field in fields(contract)})
    return path


def for_target(bundle: Path, folder: Path, target: str) -> Path:
    """A copy whose target is another one; its graph is as it was."""
    def change(manifest: dict[str, Any]) -> None:
        manifest["target"] = find_target(target).to_dict()

    return change_bundle(copy_of(bundle, folder), change)


def with_engine(bundle: Path, folder: Path, **changes: object) -> Path:
    """A copy for a Jetson with a file in place of its engine, and the record of it."""
    path = for_target(bundle, folder, "jetson-orin-nano")
    opened = open_bundle(path)
    (path / ENGINE).write_bytes(b"an engine")
    write_json(path / "engine.json", {
        "engine": ENGINE, "sha256": sha256_of(path / ENGINE), "graph_sha256": sha256_of(opened.graph),
        "bundle_sha256": opened.sha256, "tensorrt": "10.3.0", "compute_capability": ["8.7"],
        "precision": "fp16", "module": "tensorrt", "executed": {}} | changes)
    return path


def refused(*arguments: object, code: int = 2) -> str:
    """Run the command, which must fail and write nothing, and return its message."""
    result = call("triton", *arguments)
    assert (result.code, result.out) == (code, "")
    return result.err
