"""The naive way: torch.onnx.export of the network from its features on.

Under ONNX Runtime, in int8 with `quantize_dynamic` of matrix products as icefall and CED do; under OpenVINO
as it is, and in int8 with nncf's defaults for a transformer."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from benchmarks.peers.peer import WEIGHTS, Case, Store, find_missing_bf16
from benchmarks.peers.published import FeatureStep, FromFeatures, example, initial_of, load_published
from satexport.audio.synthetic import synthetic_stream
from satexport.errors import MissingError
from satexport.quantize.calibrate import read_clips
from satexport.quantize.calibration_set import calibration_clips, find_calibration
from satexport.runtimes import import_runtime
from satexport.step import FloatArray, Step

SOURCES = ("benchmarks/peers/naive.*", "benchmarks/peers/published.py", *WEIGHTS)
INPUTS, OUTPUTS = ("mel", "cache"), ("scores", "new_cache")
SUBSET = 300             # chunks that nncf calibrates on, its default
RANDOM_SUBSET = 20       # with random weights, whose ranges show nothing
OPENVINO = {"fp32": "f32", "bf16": "bf16"}  # INFERENCE_PRECISION_HINT; int8: the runtime's default for floats


@dataclass(frozen=True)
class NaiveOnnxRuntime:
    """The export under ONNX Runtime."""

    precision: str
    environment = "naive"
    starts_from_zeros = True
    packages = ("onnxruntime", "torch", "onnxscript")
    is_ours = False

    @property
    def name(self) -> str:
        return f"naive-{self.precision}"

    @property
    def title(self) -> str:
        return "ONNX Runtime, torch.onnx export" + (", quantize_dynamic" if self.precision == "int8" else "")

    def prepare(self, case: Case, store: Store) -> Path:
        folder = export(case, store)
        if self.precision == "fp32":
            return folder
        return store.make(self.name, case, SOURCES, lambda stage: quantize_dynamic(folder, stage))

    def load(self, case: Case, folder: Path, threads: int) -> Step:
        onnxruntime = import_runtime("onnxruntime")
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = threads
        session = onnxruntime.InferenceSession(folder / "model.onnx", options, ["CPUExecutionProvider"])
        return _step(case, lambda inputs: session.run(None, dict(zip(INPUTS, inputs, strict=False))))


@dataclass(frozen=True)
class NaiveOpenVino:
    """The export under OpenVINO."""

    precision: str
    environment = "naive"
    starts_from_zeros = True
    is_ours = False

    @property
    def packages(self) -> tuple[str, ...]:
        return ("openvino", "torch", "onnxscript", *(["nncf"] if self.precision == "int8" else []))

    @property
    def name(self) -> str:
        return f"naive-openvino-{self.precision}"

    @property
    def title(self) -> str:
        return "OpenVINO, torch.onnx export" + (", nncf" if self.precision == "int8" else "")

    def prepare(self, case: Case, store: Store) -> Path:
        if self.precision == "bf16" and (why_not := find_missing_bf16()):
            raise MissingError(why_not)
        folder = export(case, store)
        if self.precision != "int8":
            return folder
        return store.make(self.name, case, SOURCES, lambda stage: quantize_by_nncf(case, folder, stage))

    def load(self, case: Case, folder: Path, threads: int) -> Step:
        core = import_runtime("openvino").Core()
        options = {"PERFORMANCE_HINT": "LATENCY", "INFERENCE_NUM_THREADS": threads}
        if self.precision in OPENVINO:
            options["INFERENCE_PRECISION_HINT"] = OPENVINO[self.precision]
        model = folder / ("model.xml" if self.precision == "int8" else "model.onnx")
        request = core.compile_model(model, "CPU", options).create_infer_request()

        def run(inputs: Any) -> list[FloatArray]:
            request.infer(dict(enumerate(inputs)), share_inputs=True)
            return [tensor.data.copy() for tensor in request.output_tensors]

        return _step(case, run)


def export(case: Case, store: Store) -> Path:
    """Return the folder of `model.onnx`, as torch.onnx.export writes it."""
    def build(stage: Path) -> None:
        model = load_published(case).model
        inputs = example(model)
        program = torch.onnx.export(
            FromFeatures(model).eval(), inputs, dynamo=True, optimize=True, verbose=False,
            input_names=INPUTS[:len(inputs)], output_names=OUTPUTS[:len(inputs)])
        assert program
        program.save(stage / "model.onnx")

    return store.make("naive", case, SOURCES, build)


def quantize_dynamic(folder: Path, stage: Path) -> None:
    """Write the int8 graph of ONNX Runtime's dynamic quantisation of MatMul."""
    import onnx

    quantization = import_runtime("onnxruntime.quantization")
    model = onnx.load(folder / "model.onnx")
    del model.graph.value_info[:]  # otherwise its shape inference fails on graphs of the dynamo exporter
    quantization.quantize_dynamic(model, stage / "model.onnx", op_types_to_quantize=["MatMul"],
                                  weight_type=quantization.QuantType.QInt8)


def quantize_by_nncf(case: Case, folder: Path, stage: Path) -> None:
    """Write the int8 model of nncf's defaults for a transformer, calibrated on chunks of the calibration
    clips, each with the cache that PyTorch has there."""
    openvino = import_runtime("openvino")
    try:
        nncf = import_runtime("nncf")
    except ImportError as error:
        raise MissingError(f"nncf is not installed: {error}") from None
    samples = list(_calibration(case))
    model = nncf.quantize(openvino.Core().read_model(folder / "model.onnx"), nncf.Dataset(samples),
                          model_type=nncf.ModelType.TRANSFORMER, subset_size=len(samples))
    openvino.save_model(model, stage / "model.xml")


def _calibration(case: Case) -> list[dict[str, FloatArray]]:
    """Return inputs of the export."""
    reference = load_published(case)
    variant = reference.model.variant
    size, rate = variant.hop_samples, variant.sample_rate
    if case.recordings:
        clips = calibration_clips(find_calibration("esc50"), Path(case.recordings))
        sounds = read_clips(clips, rate)[0]
    else:
        sounds = [synthetic_stream(RANDOM_SUBSET * size / rate, "calibrate", rate=rate)]
    features = FeatureStep(reference.model, lambda inputs: inputs, None).features
    samples = []
    for sound in sounds:
        cache = reference.initial_cache(1)
        for chunk in sound[:len(sound) // size * size].reshape(-1, 1, size).astype(np.float32):
            caches = {} if cache is None else {"cache": np.asarray(cache.numpy())}
            samples.append({"mel": features(chunk), **caches})
            _, cache = reference(chunk, cache)
    return samples[:SUBSET]


def _step(case: Case, run: Any) -> Step:
    """Return a step around the export."""
    model = load_published(case).model
    return FeatureStep(model, run, initial_of(example(model)))
