"""Copies of bundles that a test may modify, and their content."""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import onnx

from satexport.bundle.contract import PREFIX, Contract
from satexport.bundle.folder import MANIFEST, Bundle, write_manifest
from satexport.bundle.roles import roles_from_json
from satexport.bundle.target import Target
from satexport.files import json_text, sha256_of
from satexport.graph.roles import Graph

GRAPH = "model.onnx"
Change = Callable[[dict[str, Any]], None]


def content(folder: Path) -> dict[str, bytes]:
    """All files below a folder, also hidden ones: relative path -> content."""
    return {str(path.relative_to(folder)): path.read_bytes()
            for path in sorted(folder.rglob("*")) if path.is_file()}


def copy_of(bundle: Path, folder: Path) -> Path:
    """A copy that may be modified, at the path below a folder that an export would use."""
    return Path(shutil.copytree(bundle, folder / bundle.parent.name / bundle.name))


def manifest_of(bundle: Path) -> dict[str, Any]:
    manifest: dict[str, Any] = json.loads((bundle / MANIFEST).read_bytes())
    return manifest


def reseal(bundle: Path, **changes: object) -> None:
    """Write bundle.json again for the current files: all hashes match, whatever was modified.
    `changes` replace fields of the contract."""
    manifest = manifest_of(bundle)
    (bundle / MANIFEST).unlink()
    contract = replace(Contract.from_dict(manifest["contract"]), **changes)  # type: ignore[arg-type]
    write_manifest(bundle, contract, Target.from_dict(manifest["target"], bundle), manifest["graph"],
                   manifest["operations"], roles_from_json(manifest["roles"]))


def change_bundle(bundle: Path, change: Change) -> Path:
    """Change bundle.json, and the contract in the graph with it; all hashes match afterwards."""
    manifest = manifest_of(bundle) | {"seal": ""}
    change(manifest)
    graph = onnx.load(bundle / GRAPH)
    del graph.metadata_props[:]
    for key, value in manifest["contract"].items():
        text = value if isinstance(value, str) else json.dumps(value)
        graph.metadata_props.add(key=PREFIX + key, value=text)
    onnx.save(graph, bundle / GRAPH)
    manifest["files"][GRAPH] = {"bytes": (bundle / GRAPH).stat().st_size, "sha256": sha256_of(bundle / GRAPH)}
    manifest["seal"] = hashlib.sha256(json_text(manifest).encode()).hexdigest()
    (bundle / MANIFEST).write_text(json_text(manifest), encoding="utf-8")
    return bundle


def output_with(export: Path, folder: Path) -> Path:
    """An output folder with a copy of an export."""
    copy_of(export, folder / "build")
    return folder / "build"


def graph_of(bundle: Bundle) -> Graph:
    """The graph of an export."""
    return Graph(onnx.load(bundle.graph), bundle.roles)
