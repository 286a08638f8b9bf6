"""Print where the time of a step goes: the shares of the operators, by the runtime's own profile.

    python -m benchmarks.shares build/sat-t-2s/cpu-int8 build/sat-t-2s/openvino-int8

With one thread, on noise. The nodes of the front end are one row, whatever their operators. The time of a
node is its median over all steps; shares are of the sum of these medians. The profile itself takes time, so
the sum is more than an ordinary step takes.
"""

from __future__ import annotations

import json
import statistics
import tempfile
from collections import defaultdict
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from benchmarks import command
from satexport.backends.onnxruntime.step import make_options
from satexport.backends.openvino.settings import OpenVinoSettings
from satexport.backends.openvino.step import FRONT_END_LAYERS, PRECISIONS, streams_per_request
from satexport.bundle.contract import ANY
from satexport.bundle.folder import Bundle, open_bundle
from satexport.bundle.roles import FRONT
from satexport.errors import UsageError
from satexport.runtimes import import_runtime

FRONT_END = "front end"
Times = dict[tuple[str, str], list[float]]  # (row of the table, node) -> microseconds of each step


def profile_onnxruntime(bundle: Bundle, steps: int) -> Times:
    """Return the times of a graph's nodes under ONNX Runtime; rows are operators."""
    onnxruntime = import_runtime("onnxruntime")
    options = make_options(1)
    options.enable_profiling = True
    times: Times = defaultdict(list)
    with tempfile.TemporaryDirectory() as folder:
        options.profile_file_prefix = str(Path(folder) / "profile")
        session = onnxruntime.InferenceSession(str(bundle.graph), options, providers=["CPUExecutionProvider"])
        inputs = make_inputs(bundle, bundle.contract.options.streams)
        for _ in range(steps):
            session.run(None, inputs)
        events = json.loads(Path(session.end_profiling()).read_text("utf-8"))
    for event in events:
        node, ends, _ = event["name"].rpartition("_kernel_time")
        if event["cat"] == "Node" and ends:
            role = bundle.roles.get(node)
            row = FRONT_END if role and role.kind == FRONT else event["args"]["op_name"]
            times[row, node].append(event["dur"])
    return times


def profile_openvino(bundle: Bundle, steps: int) -> Times:
    """Return the times of a compiled model's layers under OpenVINO; rows are types of layers."""
    core = import_runtime("openvino").Core()
    settings = OpenVinoSettings.of(bundle.target)
    model = core.read_model(bundle.graph)
    front_end = set(json.loads(model.get_rt_info(FRONT_END_LAYERS).astype(str)))
    compiled = core.compile_model(model, settings.device, {
        "INFERENCE_PRECISION_HINT": PRECISIONS[settings.floats], "INFERENCE_NUM_THREADS": 1,
        "NUM_STREAMS": "1", "PERFORMANCE_HINT": "LATENCY", "PERF_COUNT": True})
    rows = {node.get_friendly_name(): FRONT_END for node in compiled.get_runtime_model().get_ops()
            if front_end.intersection(node.get_rt_info()["originalLayersNames"].astype(str).split(","))}
    inputs = make_inputs(bundle, streams_per_request(bundle.contract, settings))
    inputs = {port.any_name: inputs[port.any_name] for port in compiled.inputs}  # caches may be states
    request, times = compiled.create_infer_request(), defaultdict[tuple[str, str], list[float]](list)
    for _ in range(steps):
        request.infer(inputs)
        for layer in request.get_profiling_info():
            if layer.real_time:  # others are now part of a layer
                name = layer.node_name
                times[rows.get(name, layer.node_type), name].append(layer.real_time.total_seconds() * 1e6)
    return times


PROFILES: dict[str, Callable[[Bundle, int], Times]] = {
    "onnxruntime": profile_onnxruntime, "openvino": profile_openvino}


def make_inputs(bundle: Bundle, streams: int) -> dict[str, NDArray[Any]]:
    """Return noise and the cache after silence by the names of a graph's inputs, for one stream if `streams`
    is ANY."""
    contract, count = bundle.contract, 1 if streams == ANY else streams
    noise = 0.1 * np.random.default_rng(0).standard_normal((count, *contract.input.shape[1:]))
    caches = {spec.name: np.repeat(initial, count, 0)
              for spec, initial in zip(contract.cache_in, bundle.initial_cache(), strict=True)}
    return {contract.input.name: noise.astype(np.float32), **caches}


def find_shares(times: Times) -> dict[str, float]:
    """Return the milliseconds of each row, the largest first."""
    rows: dict[str, float] = defaultdict(float)
    for (row, _), microseconds in times.items():
        rows[row] += statistics.median(microseconds) / 1000
    return dict(sorted(rows.items(), key=lambda item: -item[1]))


def main() -> None:
    """Print a table for each bundle of the command line."""
    parser = command.Parser("shares", __doc__)
    parser.add_argument("bundles", nargs="+", type=command.folder, metavar="BUNDLE",
                        help="for ONNX Runtime or OpenVINO")
    parser.add_argument("--steps", type=command.whole_number(10, command.STEPS), default=300, metavar="N",
                        help="steps to run, 10 to 10000; default 300")
    options = parser.parse_args()
    for path in options.bundles:
        bundle = open_bundle(path)
        if (profile := PROFILES.get(bundle.target.backend)) is None:
            raise UsageError(f"{path} is a bundle for {bundle.target.backend}, whose profile cannot be "
                             f"read; expected one for {' or '.join(PROFILES)}.")
        shares = find_shares(profile(bundle, options.steps))
        total = sum(shares.values())
        print(f"{bundle.contract.variant} {bundle.target.name}: {total:.2f} ms")
        for row, milliseconds in shares.items():
            print(f"  {milliseconds / total:6.1%}  {row}")


if __name__ == "__main__":
    command.run(main)
