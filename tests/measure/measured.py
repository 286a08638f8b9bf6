"""Bundles to measure, and their reports."""

from __future__ import annotations

import json
import os
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from satexport.bundle.contract import Contract, GraphOptions
from satexport.bundle.folder import MANIFEST, write_manifest
from satexport.bundle.roles import roles_from_json
from satexport.bundle.target import Budgets, Target
from tests.bundle.copies import manifest_of
from tests.commands.calls import Result
from tests.tiny import DEPTH, SAT, export

STEPS = 2
QUICK = ("--steps", STEPS, "--pause", 0.01)
HIDDEN_OF_MLP = 48 * 4 * 48 * 4  # bytes, the largest tensor of a small model: 48 tokens, 4 * 48 wide
WEIGHTS = DEPTH * 12 * 48 * 48 * 4  # bytes of the matrices of its blocks


def retarget(bundle: Path, **changes: Any) -> Path:
    """Rewrite a bundle's manifest with another target and correct hashes."""
    manifest = manifest_of(bundle)
    (bundle / MANIFEST).unlink()
    target = replace(Target.from_dict(manifest["target"], bundle), **changes)
    write_manifest(bundle, Contract.from_dict(manifest["contract"]), target, manifest["graph"],
                   manifest["operations"], roles_from_json(manifest["roles"]))
    return bundle


def report_in(folder: Path) -> dict[str, Any]:
    place = folder / "reports" if (folder / MANIFEST).exists() else folder
    report: dict[str, Any] = json.loads((place / "measure.json").read_bytes())
    return report


def export_form(folder: Path, options: GraphOptions) -> Path:
    return export(folder, SAT, 2, "random", options, use_onnxsim=False)


def without(packages: tuple[str, ...], folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Make processes that start from now on lack some packages."""
    for name in packages:
        (folder / f"{name}.py").write_text(f"raise ModuleNotFoundError('No module {name}', name='{name}')")
    monkeypatch.setenv("PYTHONPATH", str(folder), prepend=os.pathsep)


class Measured(NamedTuple):
    """A folder with bundles, the command that measured them, and its report."""

    path: Path
    result: Result
    report: dict[str, Any]

    @property
    def entries(self) -> list[dict[str, Any]]:
        """The entries of all bundles and of PyTorch."""
        return [*self.report["bundles"], *self.report["eager"]]


def budgets(bundle: Path, **limits: float) -> Path:
    return retarget(bundle, budgets=Budgets(**limits))
