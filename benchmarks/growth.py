"""Measure what one stream costs if a step serves many: time, CPU time and memory with 1 to 64 streams.

    make growth                                     SAT-T and SAT-S in int8, both runtimes: half an hour
    python -m benchmarks.growth --models sat-t --streams 8

One stream is the bundle that a user runs for one; several run in a bundle for any number of streams
(`--streams dynamic`), each number in turns with the bundle for one. All have one thread. The results go to
the JSON file of this CPU, where they replace those of the same model and target, and with it to its page in
docs/results. A runtime that is not installed is skipped.
"""

from __future__ import annotations

import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from benchmarks import command
from benchmarks.tables import RESULTS, cpu_name, read_results, write_pages
from satexport.backends.backend import find_backend
from satexport.bundle.contract import ANY, USUAL_OPTIONS, GraphOptions
from satexport.bundle.folder import Bundle, open_bundle
from satexport.errors import RunError, SatexportError, UsageError
from satexport.files import write_json
from satexport.measure.turns import MeasureOptions, measure
from satexport.models.checkpoint import load_checkpoint
from satexport.models.families import find_variant
from satexport.models.family import Checkpoint
from satexport.origin import origin
from satexport.pipeline.build import compile_bundle
from satexport.pipeline.export import export_onnx
from satexport.pipeline.plan import BuildOptions
from satexport.quantize.calibration_set import find_calibration
from satexport.report.figures import values
from satexport.targets import find_target

STREAMS = 2, 4, 8, 16, 32, 64
TARGETS = "cpu-int8", "openvino-int8"
STEPS = 20


def make_bundles(checkpoint: Checkpoint[Any], target: str, folder: Path) -> list[Bundle]:
    """Return the bundle for one stream and the one for any number. Raises `MissingError` if the runtime is
    not installed."""
    made, found = [], find_target(target)
    find_backend(found.backend).resolve(found)  # before the work
    for options in (USUAL_OPTIONS, GraphOptions(streams=ANY)):
        source = export_onnx(checkpoint, find_target("onnx"), folder, options).path
        build = BuildOptions(calibration=find_calibration("synthetic"))
        made.append(open_bundle(compile_bundle(open_bundle(source), found, folder, build).path))
    return made


def measure_growth(one: Bundle, many: Bundle, counts: Sequence[int]) -> dict[str, dict[str, Any]]:
    """Return the figures of the bundle for one stream, and of the other for each number of streams, whose
    "times one stream" compares it with the first in the same run. Leaves out what does not fit into
    memory, and says so."""
    rows: dict[str, dict[str, Any]] = {}
    for count in counts:
        options = MeasureOptions(streams=count, threads=1, eager=False, steps=STEPS)
        name = f"{many.contract.variant} {many.target.name}, {count} streams"
        try:
            first, figures = (values(entry) for entry in measure([one, many], options).bundles)
        except UsageError as error:
            print(f"{name}: not measured: {error}", file=sys.stderr)
            continue
        rows.setdefault("1", first)
        rows[str(count)] = figures
        print(f"{name}: {figures['times_one_stream']:.2f} times one stream", flush=True)
    return rows


def save(name: str, figures: dict[str, Any]) -> None:
    """Write the figures of a model and target into the JSON file of this CPU."""
    machine = origin()
    path = RESULTS / f"{cpu_name(machine)}.json"
    results = read_results(path)
    growth = {**results.get("growth", {}), name: {"versions": machine["versions"], "figures": figures}}
    write_json(path, results | {"kind": "results", "growth": growth, **{
        key: machine[key] for key in ("cpu", "cpu_cores", "cpu_flags", "system")}})


def main() -> None:
    """Measure the models that the command line selects, then write the pages. Raises `RunError` if none could
    be measured."""
    parser = command.Parser("growth", __doc__)
    parser.add_argument("--models", nargs="+", default=["sat-t", "sat-s"], metavar="MODEL",
                        help="that run at a delay of 2 s, such as sat-t or vit-s; default sat-t and sat-s")
    parser.add_argument("--streams", nargs="+", type=command.whole_number(2), default=STREAMS, metavar="N",
                        help="in one step, at least 2, besides one stream, which is always measured; default "
                             f"{' '.join(map(str, STREAMS))}")
    options = parser.parse_args()
    try:
        checkpoints = [load_checkpoint("random", find_variant(model, 2)) for model in options.models]
    except SatexportError as error:
        parser.error(str(error))
    has_measured = False
    for checkpoint in checkpoints:
        for target in TARGETS:
            name = f"{checkpoint.variant.name}, {target}"
            try:
                with tempfile.TemporaryDirectory(prefix="growth-") as folder:
                    one, many = make_bundles(checkpoint, target, Path(folder))
                    if figures := measure_growth(one, many, options.streams):
                        save(name, figures)
                        has_measured = True
            except SatexportError as error:
                print(f"{name} was not measured: {error}", file=sys.stderr)
    if not has_measured:
        raise RunError("nothing was measured, for the reasons above.")
    write_pages()


if __name__ == "__main__":
    command.run(main)
