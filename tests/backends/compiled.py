"""Build bundles of an export for a target."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from satexport.backends.openvino import step as backend
from satexport.bundle.folder import open_bundle
from satexport.bundle.target import Target
from satexport.pipeline.build import compile_bundle
from satexport.pipeline.plan import BuildOptions
from satexport.tagging.tagger import Tagger
from satexport.targets import find_target
from tests.tiny import FEW


def target_named(name: str) -> Target:
    target = find_target(name.removesuffix("-explicit"))
    if name.endswith("-explicit"):
        return replace(target, name=name, options={**target.options, "stateful": False})
    return target


def compiled(source: Path, name: str, folder: Path) -> Path:
    """Build a bundle of an export without testing it. Skips the test if the target's runtime is missing."""
    if name == "onnx":
        return source
    target = target_named(name)
    if target.backend == "openvino":
        pytest.importorskip("openvino", reason="needs satexport[openvino]")
    return compile_bundle(open_bundle(source), target, folder, BuildOptions(calibration=FEW)).path


def compiled_model(tagger: Tagger) -> Any:
    """OpenVINO's compiled model."""
    assert isinstance(tagger.step, backend.OpenVinoStep)
    return tagger.step.compiled
