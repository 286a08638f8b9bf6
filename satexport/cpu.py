"""The CPU bundle: an fp32 export as one target wants it, its graph quantised where that says int8."""

from __future__ import annotations

import shutil
from dataclasses import asdict
from pathlib import Path

import onnx

from satexport.bundle import CALIBRATION, GOLDEN, INITIAL_CACHE, LABELS, Bundle, staged_bundle, write_manifest
from satexport.calibrate import Calibration, CalibrationSet, calibrate
from satexport.errors import UsageError
from satexport.files import write_json
from satexport.graph import DEFAULT_OPSET
from satexport.quantize import find_ranges, layers, quantize_with
from satexport.targets import Target


def cpu_bundle(source: Bundle, target: Target, folder: Path, calibration: CalibrationSet,
               data: Path | None = None) -> Path:
    """Write `folder/<variant>/<target>` (its form in the name as in the export's) from an fp32 export
    and return its path. `data` is where the recordings of the calibration set are.

    Raises `UsageError` where the export is not fp32 or a layer to leave out does not exist,
    `DataError` where the calibration set cannot be used, `RunError` where nothing can be written.
    What was there before is then untouched.
    """
    if source.target.precision != "fp32":
        raise UsageError(f"{source.path} is {source.target.precision}; expected an fp32 export. Make one "
                         "with `satexport onnx`.")
    contract = source.contract
    opset = "" if contract.opset == DEFAULT_OPSET else f"-opset{contract.opset}"
    path = folder / contract.variant / f"{target.name}{contract.form.suffix}{opset}"
    if path.resolve() == source.path.resolve():
        raise UsageError(f"{path} is the export itself: give the target another name, or choose --output.")
    with staged_bundle(path) as stage:
        for name in (LABELS, GOLDEN, *([INITIAL_CACHE] if contract.cache_in else [])):
            shutil.copy(source.path / name, stage / name)
        if target.quantization is None:
            shutil.copy(source.graph, stage / "model.onnx")
        else:
            model = onnx.load(source.graph)
            found = (Calibration([], (), {}) if target.quantization.method == "dynamic"
                     else calibrate(source, calibration, data))
            ranges = find_ranges(model, target.quantization, found.samples)
            quantised = quantize_with(model, target.quantization, ranges)
            (stage / "model.onnx").write_bytes(quantised.SerializeToString(deterministic=True))
            float_layers = set(target.quantization.leave_out)
            write_json(stage / CALIBRATION, {
                "set": found.origin, "clips_sha256": list(found.clip_hashes),
                "quantization": asdict(target.quantization),
                "int8": [name for name in layers(model) if name not in float_layers],
                "float": sorted(float_layers), "ranges": {x: list(ranges[x]) for x in sorted(ranges)},
                "made_from": source.sha256})
        write_manifest(stage, contract, target, "model.onnx", source.operations)
    return path


def find_export(folder: Path) -> Path:
    """The one fp32 export in an output folder. Raises `UsageError` where there is none, or several."""
    found = sorted(path.parent for path in folder.glob("*/onnx*/bundle.json"))
    if len(found) == 1:
        return found[0]
    if not found:
        raise UsageError(f"{folder} holds no export. Say --model and --delay to make one, or --output DIR "
                         "for the folder that has it.")
    raise UsageError(f"{folder} holds {len(found)} exports: {', '.join(map(str, found))}. Say which one with "
                     "--from BUNDLE.")
