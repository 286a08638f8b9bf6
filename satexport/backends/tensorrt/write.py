"""Write a build bundle, from which a board builds its engines:

    int8.onnx, fp16.onnx    the graphs for TensorRT; only fp16.onnx if the precision is fp16
    build.sh                builds, tests and measures their engines on the board: see
                            satexport.pipeline.board
    runtime.zip             the part of satexport that build.sh needs; it imports only numpy and the board's
                            TensorRT and CUDA

An engine computes what its graph says, so the graphs are tested on this machine under ONNX Runtime with graph
optimisation off: an optimised ONNX Runtime would use other kernels, which round differently.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from pathlib import Path

import onnx

from satexport.backends.tensorrt.build import build_engine
from satexport.backends.tensorrt.engine import import_tensorrt
from satexport.backends.tensorrt.half import to_fp16
from satexport.backends.tensorrt.rules import check_rules
from satexport.backends.tensorrt.runtime_zip import write_runtime
from satexport.backends.tensorrt.settings import RTX_MODULE, TensorRtSettings
from satexport.backends.tensorrt.step import RECORD, engine_record
from satexport.bundle.folder import Bundle
from satexport.files import write_bytes, write_json
from satexport.graph.roles import Graph
from satexport.memory import MB
from satexport.origin import origin

BUILD = "build.sh"
RUNTIME = "runtime.zip"
RTX_SCHEMA = 1
RTX_REPORT = "rtx.json"  # in reports/
SCRIPT = """\
#!/bin/sh
# Builds, tests and measures the engines of this bundle on this board, and keeps the faster one that passes.
set -eu
here=$(cd "$(dirname "$(readlink -f "$0")")" && pwd)
python=${PYTHON:-python3}
"$python" -c 'import sys, numpy; sys.exit(sys.version_info < (3, 10))' 2>/dev/null || {
    echo "Error: expected Python 3.10 or newer (JetPack 6 or newer) with numpy;" \
         "found $("$python" --version 2>&1). Install numpy (apt install python3-numpy)," \
         "or set PYTHON=/path/to/python." >&2
    exit 3
}
export ORT_DISABLE_TELEMETRY="${ORT_DISABLE_TELEMETRY:-1}"  # no runtime sends telemetry
export PYTHONPATH="$here/runtime.zip${PYTHONPATH:+:$PYTHONPATH}"
exec "$python" -m satexport.pipeline.board "$here" "$@"
"""
RTX_RULES = "10.3"  # TensorRT version whose rules are applied to TensorRT for RTX, which counts separately


def write_build_bundle(folder: Path, graphs: Mapping[str, Graph],
                       settings: TensorRtSettings) -> dict[str, Graph]:
    """Write the graphs of each precision, and for a board the files that build their engines; returns the
    graphs as written. Raises `UsageError` for an opset that TensorRT does not read, `RunError` if a graph
    breaks one of its rules."""
    version = RTX_RULES if settings.module == RTX_MODULE else settings.version
    written = {}
    for precision, source in graphs.items():
        graph = to_fp16(source)
        check_rules(graph, version)
        onnx.save_model(graph.model, folder / f"{precision}.onnx")
        written[precision] = graph
    if settings.module != RTX_MODULE:
        (folder / BUILD).write_bytes(SCRIPT.encode())
        (folder / BUILD).chmod(0o755)
        write_runtime(folder / RUNTIME)
    return written


def build_for_rtx(bundle: Bundle) -> dict[str, object]:
    """Build the engine of a bundle for TensorRT for RTX, which needs no GPU; returns the report. Raises
    `MissingError` if the package is not installed, `RunError` if it builds no engine."""
    settings, precision = TensorRtSettings.of(bundle.target), bundle.target.precision
    trt = import_tensorrt(RTX_MODULE)
    start = time.perf_counter()
    engine = build_engine(trt, bundle.graph, settings, settings.compute_capability)
    seconds = time.perf_counter() - start
    file = bundle.path / f"{precision}.engine"
    write_bytes(file, engine)
    write_json(bundle.path / RECORD, engine_record(
        bundle, file, RTX_MODULE, trt.__version__, settings.compute_capability, {}))
    report: dict[str, object] = {
        "kind": "RTX compile check", "schema": RTX_SCHEMA, "precision": precision, "build_seconds": seconds,
        "engine_bytes": len(engine), "compute_capability": list(settings.compute_capability),
        "tensorrt_rtx": trt.__version__,
        "summary": f"RTX compile check: passed, {len(engine) / MB:.1f} MB for compute capability "
                   f"{', '.join(settings.compute_capability)} in {seconds:.1f} s.",
        "note": "built without a GPU and not run: a check of graph and builder, not an engine for a Jetson"}
    write_json(bundle.reports / RTX_REPORT, report | {"origin": origin()})
    return report
