"""Small models and a calibration set for tests that do not depend on size; they run in a second."""

from __future__ import annotations

from pathlib import Path

from safetensors.numpy import save_file

from satexport.bundle.contract import USUAL_OPTIONS, GraphOptions
from satexport.models.checkpoint import load_checkpoint
from satexport.models.families import find_variant
from satexport.pipeline.export import export_onnx
from satexport.quantize.calibration_set import CalibrationSet
from satexport.targets import find_target

DEPTH = 3  # blocks: a first one, one in the middle, a last one
TINY = f"48x3x{DEPTH}"  # width, heads and blocks
SAT, VIT = f"sat-t-{TINY}", f"vit-t-{TINY}"  # with a cache, without
SAT_2S = f"{SAT}-2s"  # the folder of its bundles
WINDOW = "vit-t-48x3x2"  # without a cache; small, because its steps take 10 s of audio
FEW = CalibrationSet(name="few", source="synthetic", licence="made", clips=28, samples=24, stream_seconds=40)


def export(folder: Path, model: str, delay: int, what: str, form: GraphOptions = USUAL_OPTIONS,
           use_onnxsim: bool = True, window: int | None = None) -> Path:
    """Export and return the bundle's path."""
    checkpoint = load_checkpoint(what, find_variant(model, delay, window))
    return export_onnx(checkpoint, find_target("onnx"), folder, form, use_onnxsim=use_onnxsim).path


def vit_file(folder: Path, seed: int) -> Path:
    """A checkpoint file of a small vit-t with the weights of a seed."""
    checkpoint = load_checkpoint("random", find_variant(VIT, 2), seed=seed)
    save_file(checkpoint.state, folder / f"seed-{seed}.safetensors")
    return folder / f"seed-{seed}.safetensors"
