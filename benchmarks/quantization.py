"""Compare the choices of int8 quantisation: what each costs in accuracy and gains in speed.

    python benchmarks/quantization.py ESC-10              accuracy; takes minutes
    python benchmarks/quantization.py --speed sat-b       speed, on a machine that does nothing else
    python benchmarks/quantization.py ESC-10 --openvino   both under OpenVINO, compared with nncf's quantiser
                                                          (pip install nncf==3.4.0)

Accuracy is that of the demo checkpoint, calibrated on ESC-10 fold 1 and compared with the fp32 graph on
fold 2, streamed; fold 4, which gates, is not used. Speed is measured in turns on seeded weights. These show
time, memory and overflows, but they must not decide a choice: their activations have other ranges than
trained ones, their scores are all alike, and they have no mAP.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import onnx

from satexport.audio.datasets import LabelledSet, load_set
from satexport.backends.backend import find_backend
from satexport.backends.onnxruntime.step import OnnxRuntimeStep
from satexport.backends.openvino.settings import OpenVinoSettings
from satexport.backends.openvino.step import OpenVinoStep
from satexport.backends.openvino.write import save_ir
from satexport.bundle.contract import Contract
from satexport.bundle.folder import Bundle, open_bundle
from satexport.bundle.target import OPERATORS, Quantization, Target
from satexport.graph.roles import Graph
from satexport.measure.latency import StepTimer, take_turns
from satexport.measure.schedule import plan_turns
from satexport.measure.turns import MeasureOptions, measure
from satexport.models.checkpoint import load_checkpoint
from satexport.models.families import find_variant
from satexport.parity.differences import compare
from satexport.parity.metrics import average_precisions
from satexport.pipeline.build import compile_bundle
from satexport.pipeline.export import export_onnx
from satexport.pipeline.plan import BuildOptions
from satexport.quantize.cache_dtype import store_cache
from satexport.quantize.calibrate import calibrate
from satexport.quantize.calibration_set import find_calibration
from satexport.quantize.int8 import quantize
from satexport.quantize.observe import Sample
from satexport.quantize.ranges import find_ranges
from satexport.report.figures import MEASURE_FIGURES
from satexport.report.markdown import markdown_rows
from satexport.report.table import rows_table
from satexport.runtimes import import_runtime
from satexport.step import FloatArray, Step
from satexport.tagging.stream import StreamBatch, clip_chunks
from satexport.targets import find_target

OPENVINO = find_backend("openvino")
SHIPPED = find_target("cpu-int8").quantization or Quantization()
CHOICES = {
    "as shipped": SHIPPED,
    "operators: linear": replace(SHIPPED, operators=("linear",)),
    "operators: linear, patch": replace(SHIPPED, operators=("linear", "patch")),
    "operators: linear, head": replace(SHIPPED, operators=("linear", "head")),
    "operators: linear, attention": replace(SHIPPED, operators=("linear", "attention")),
    "operators: all": replace(SHIPPED, operators=OPERATORS),
    "percentile 99.999": replace(SHIPPED, ranges="percentile"),
    "percentile 99.99": replace(SHIPPED, ranges="percentile", percentile=99.99),
    "entropy": replace(SHIPPED, ranges="entropy"),
    "symmetric": replace(SHIPPED, symmetric=True),
    "one scale per weight": replace(SHIPPED, per_channel=False),
    "weights of 7 bits": replace(SHIPPED, weight_bits=7),
    "qdq": replace(SHIPPED, scheme="qdq"),
    "qdq, symmetric": replace(SHIPPED, scheme="qdq", symmetric=True),
    "dynamic": replace(SHIPPED, method="dynamic"),
}
SPEED = {"static": SHIPPED, "static-patch-head": replace(SHIPPED, operators=("linear", "patch", "head")),
         "static-all": replace(SHIPPED, operators=OPERATORS),
         "dynamic": replace(SHIPPED, method="dynamic"), "qdq": replace(SHIPPED, scheme="qdq")}
SPEED_FIGURES = ("burst_median_ms", "paused_median_ms", "times_eager_burst", "times_eager_paused",
                 "weights_mb", "resident_mb")


def accuracy(folder: Path) -> Iterator[str]:
    """Yield the lines of a Markdown table of accuracy, one per choice."""
    yield "| int8 | mean difference | largest | top-1 agree | mAP |"
    yield "| --- | ---: | ---: | ---: | ---: |"
    with tempfile.TemporaryDirectory() as place:
        source, model, clips, samples = demo(folder, Path(place))
        initial = list(source.initial_cache())
        expected = scores(onnxruntime(model, source.contract, initial), source.contract, clips)
        line = partial(row, expected, source, clips)
        yield line("fp32", expected)
        for name, choice in CHOICES.items():
            graph = quantize(model, choice, find_ranges(model, choice, samples), ())
            yield line(name, scores(onnxruntime(graph, source.contract, initial), source.contract, clips))
        int8 = quantize(model, SHIPPED, find_ranges(model, SHIPPED, samples), ())
        for graph, words in ((model, "fp32"), (int8, "as shipped")):
            for dtype in ("fp16", "int8"):
                stored = store_cache(graph, source.contract, dtype, initial, samples)
                step = onnxruntime(stored.graph, stored.contract, stored.initial)
                yield line(f"{words}, cache {dtype}", scores(step, stored.contract, clips))


def demo(folder: Path, place: Path) -> tuple[Bundle, Graph, LabelledSet, list[Sample]]:
    """Return the demo's export, its graph, the clips to judge on and the samples to calibrate with."""
    checkpoint = load_checkpoint("demo", find_variant("sat-t", 2))
    source = open_bundle(export_onnx(checkpoint, find_target("onnx"), place).path)
    return (source, Graph(onnx.load(source.graph), source.roles), load_set(folder, source.labels, folds=[2]),
            calibrate(source, find_calibration("esc50"), folder).samples)


def onnxruntime(graph: Graph, contract: Contract, initial: list[FloatArray]) -> Step:
    return OnnxRuntimeStep(graph.model.SerializeToString(), contract, initial)


def scores(step: Step, contract: Contract, clips: LabelledSet) -> list[FloatArray]:
    """Return the scores [chunks, classes] of each clip, streamed from silence."""
    streams = StreamBatch(step, contract)
    return [clip_chunks(streams, [clip.read(contract.sample_rate)])[0] for clip in clips.clips]


def under_openvino(folder: Path, threads: int) -> Iterator[str]:
    """Yield the lines of a Markdown table: the demo's accuracy under OpenVINO, and its step times in
    turns."""
    yield "| OpenVINO | mean difference | largest | top-1 agree | mAP | step, ms: burst / paused |"
    yield "| --- | ---: | ---: | ---: | ---: | ---: |"
    with tempfile.TemporaryDirectory() as place:
        source, model, clips, samples = demo(folder, Path(place))
        contract, initial = source.contract, list(source.initial_cache())
        expected = scores(onnxruntime(model, contract, initial), contract, clips)
        steps: dict[str, OpenVinoStep] = {}
        for name, (target, ir) in openvino_models(model, samples).items():
            stage = Path(place) / str(len(steps))
            stage.mkdir()
            settings = OpenVinoSettings.of(target)
            path = stage / save_ir(stage, ir, model, contract, settings, initial, 0)
            steps[name] = OpenVinoStep(path, contract, initial, settings, threads)
        audio = clips.clips[0].read(contract.sample_rate)[None, None, :contract.hop_samples]
        latencies = take_turns([StepTimer(step, audio).run_turn for step in steps.values()], plan_turns())
        for (name, step), latency in zip(steps.items(), latencies, strict=True):
            line = row(expected, source, clips, name, scores(step, contract, clips))
            yield f"{line} {latency.burst.median_ms:.2f} / {latency.paused.median_ms:.2f} |"


def openvino_models(model: Graph, samples: list[Sample]) -> dict[str, tuple[Target, Any]]:
    """Return by name each target and the model that OpenVINO read, to compile for it."""
    def read(graph: Graph) -> Any:
        return import_runtime("openvino").Core().read_model(graph.model.SerializeToString())

    target = OPENVINO.resolve(find_target("openvino-int8"))
    shipped = target.quantization
    assert shipped
    models = {name: (OPENVINO.resolve(find_target(f"openvino-{name}")), read(model))
              for name in ("fp32", "bf16")}
    for name, choice in {"int8, as shipped": shipped, "int8, symmetric": replace(shipped, symmetric=True),
                         "int8, operators: all": replace(shipped, operators=OPERATORS)}.items():
        models[name] = target, read(quantize(model, choice, find_ranges(model, choice, samples), ()))
    try:
        nncf = import_runtime("nncf")  # which, like OpenVINO, reports its use unless told not to
        advanced = import_runtime("nncf.quantization.advanced_parameters")
        estimators = import_runtime("nncf.quantization.range_estimator")
    except ImportError:
        print("nncf is not installed: pip install nncf==3.4.0", file=sys.stderr)
        return models
    ranges = estimators.RangeEstimatorParametersSet.MINMAX
    data = nncf.Dataset(samples)
    common = {"model_type": nncf.ModelType.TRANSFORMER, "subset_size": len(samples)}
    front_end, attention = ([name for name, role in model.roles.items() if role.kind == kind]
                            for kind in ("front_end", "attention"))
    models["nncf, its defaults, front end left out"] = target, nncf.quantize(
        read(model), data, **common, ignored_scope=nncf.IgnoredScope(names=front_end, validate=False))
    models["nncf, min-max, front end and attention left out"] = target, nncf.quantize(
        read(model), data, **common, preset=nncf.QuantizationPreset.PERFORMANCE,
        ignored_scope=nncf.IgnoredScope(names=[*front_end, *attention], validate=False),
        advanced_parameters=advanced.AdvancedQuantizationParameters(
            activations_range_estimator_params=ranges, weights_range_estimator_params=ranges,
            disable_bias_correction=True))
    return models


def row(expected: list[FloatArray], source: Bundle, clips: LabelledSet, name: str,
        clip_scores: list[FloatArray]) -> str:
    """Return a line of the tables: differences from the `expected` scores of each clip, and mAP."""
    differences = compare(np.concatenate(expected), np.concatenate(clip_scores))
    means = np.stack([chunks.mean(0) for chunks in clip_scores])
    precisions = average_precisions(clips.truth(source.labels), means, source.labels)
    return (f"| {name} | {differences.mean:.1e} | {differences.largest:.1e} | "
            f"{differences.top1_agreement:.4f} | {np.mean(list(precisions.values())):.4f} |")


def speed(model: str, threads: int) -> Iterator[str]:
    """Yield a Markdown table of speed with a row for each scheme, measured in turns."""
    with tempfile.TemporaryDirectory() as place:
        checkpoint = load_checkpoint("random", find_variant(model, 2))
        bundles = [open_bundle(export_onnx(checkpoint, find_target("onnx"), Path(place)).path)]
        for name, choice in SPEED.items():
            target = replace(find_target("cpu-int8"), name=name, quantization=choice)
            options = BuildOptions(calibration=find_calibration("synthetic"))
            record = compile_bundle(bundles[0], target, Path(place), options)
            bundles.append(open_bundle(record.path))
        report = measure(bundles, MeasureOptions(threads=threads))
    figures = [figure for figure in MEASURE_FIGURES if figure.key in SPEED_FIGURES]
    entries = {entry.name: entry for entry in report.bundles}
    yield markdown_rows(rows_table("", f"{model} at 2 s", figures, entries))


def main() -> None:
    """Print the tables that the command line asks for."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("folder", nargs="?", type=Path, help="ESC-10 or ESC-50, to compare accuracy")
    parser.add_argument("--speed", metavar="MODEL", help="compare speed of this model: sat-t, sat-s or sat-b")
    parser.add_argument("--openvino", action="store_true", help="with a folder: compare under OpenVINO")
    parser.add_argument("--threads", type=int, default=2)
    options = parser.parse_args()
    if options.folder is None and options.speed is None:
        parser.error("pass a folder in ESC-50 layout, or --speed MODEL.")
    compare_accuracy = partial(under_openvino, threads=options.threads) if options.openvino else accuracy
    for lines in (compare_accuracy(options.folder) if options.folder else (),
                  speed(options.speed, options.threads) if options.speed else ()):
        for line in lines:
            print(line, flush=True)


if __name__ == "__main__":
    main()
