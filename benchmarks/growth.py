"""Measure what one stream costs if a step serves many: time, CPU time and memory with 1 to 64 streams.

    python -m benchmarks.growth                     SAT-T and SAT-S in int8, both runtimes: 15 minutes
    python -m benchmarks.growth --models sat-t --streams 1 8

Each bundle runs any number of streams (`--streams dynamic`), on one thread. The results go to the JSON file
of this CPU, and with it to its page in docs/results.
"""

from __future__ import annotations

import argparse
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from benchmarks.tables import RESULTS, cpu_name, read_results, write_pages
from satexport.bundle.contract import ANY, GraphOptions
from satexport.bundle.folder import Bundle, open_bundle
from satexport.files import write_json
from satexport.measure.turns import MeasureOptions, measure
from satexport.models.checkpoint import load_checkpoint
from satexport.models.families import find_variant
from satexport.origin import origin
from satexport.pipeline.build import compile_bundle
from satexport.pipeline.export import export_onnx
from satexport.pipeline.plan import BuildOptions
from satexport.quantize.calibration_set import find_calibration
from satexport.report.figures import values
from satexport.targets import find_target

STREAMS = 1, 2, 4, 8, 16, 32, 64
TARGETS = "cpu-int8", "openvino-int8"
STEPS = 20


def measure_growth(bundle: Bundle, counts: Sequence[int]) -> dict[str, dict[str, Any]]:
    """Return the figures of a bundle for each number of streams, the first of which is the one that the
    others are compared with."""
    rows: dict[str, dict[str, Any]] = {}
    for count in counts:
        options = MeasureOptions(streams=count, threads=1, eager=False, steps=STEPS)
        figures: dict[str, Any] = values(measure([bundle], options).bundles[0])
        chunks = figures["chunks_per_core_second"]
        first = next(iter(rows.values()), figures)["chunks_per_core_second"]
        rows[str(count)] = {**figures, "times_one_stream": chunks / first}
        print(f"{bundle.contract.variant} {bundle.target.name}, {count} streams: {chunks:.1f} chunks per "
              "core-second", flush=True)
    return rows


def main() -> None:
    """Measure the models that the command line selects, then write the pages."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--models", nargs="+", default=["sat-t", "sat-s"])
    parser.add_argument("--streams", nargs="+", type=int, default=STREAMS, metavar="N")
    options = parser.parse_args()
    machine = origin()
    path = RESULTS / f"{cpu_name(machine)}.json"
    for model in options.models:
        with tempfile.TemporaryDirectory(prefix="growth-") as folder:
            checkpoint = load_checkpoint("random", find_variant(model, 2))
            source = export_onnx(checkpoint, find_target("onnx"), Path(folder),
                                 GraphOptions(streams=ANY)).path
            for target in TARGETS:
                build = BuildOptions(calibration=find_calibration("synthetic"))
                made = compile_bundle(open_bundle(source), find_target(target), Path(folder), build).path
                rows = measure_growth(open_bundle(made), options.streams)
                results = read_results(path)
                growth = {**results.get("growth", {}), f"{model}-2s, {target}": {
                    "versions": machine["versions"], "figures": rows}}
                write_json(path, results | {"kind": "results", "growth": growth, **{
                    key: machine[key] for key in ("cpu", "cpu_cores", "cpu_flags", "system")}})
    write_pages()


if __name__ == "__main__":
    main()
