"""How many cores a fleet of microphones needs: a simulation from step times that are measured here.

    python -m benchmarks.fleet build/sat-t-2s/cpu-int8-dynamic             measure step times, and simulate
    python -m benchmarks.fleet build/sat-t-2s/cpu-int8-dynamic --write     also write docs/serving.md
    python -m benchmarks.fleet --write          only that, from the step times in docs/results/fleet

`benchmarks.fleet_simulation` says what is simulated. The times of a batch are drawn from those measured with
the bundle, at batch sizes 1 to 64 and with the states of many microphones in memory.
"""

from __future__ import annotations

import json
import math
import textwrap
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks import command
from benchmarks.fleet_simulation import (
    LATE_MS,
    QUEUE,
    Load,
    fewest_cores,
    interpolate,
    most_microphones,
    seconds_of,
    simulate,
    simulate_own,
)
from benchmarks.tables import RESULTS, VERSIONS, cpu_name
from satexport.backends.onnxruntime.step import make_options
from satexport.bundle.contract import ANY, state_bytes
from satexport.bundle.folder import Bundle, open_bundle
from satexport.errors import DataError, UsageError
from satexport.files import write_json, write_text
from satexport.measure.latency import make_noise
from satexport.origin import origin
from satexport.progress import progress
from satexport.report.blocks import Table
from satexport.report.markdown import markdown_rows
from satexport.report.terminal import print_table
from satexport.runtimes import import_runtime

SIZES = 1, 2, 4, 8, 16, 32, 64       # batches that are measured
FLEETS = 1_000, 10_000, 100_000      # microphones
POOL = 128           # microphones whose states are in memory while a batch is measured
ROUNDS = 30          # measured steps of each size, after one that is not counted
PAGE = RESULTS.parent / "serving.md"
FOLDER = RESULTS / "fleet"
BEGIN, END = "<!-- python -m benchmarks.fleet --write -->", "<!-- python -m benchmarks.fleet end -->"


def measure_steps(bundle: Bundle, rounds: int = ROUNDS,
                  sizes: Sequence[int] = SIZES) -> dict[str, list[float]]:
    """Return the milliseconds of steps by size of batch: the CPU time of one thread, which is the time on a
    core that does nothing else, also if other programs run meanwhile. Each step takes the states of its
    microphones from a pool, and puts them back. The sizes take turns. Raises `UsageError` for a bundle that
    does not run any number of streams, or not under ONNX Runtime."""
    if bundle.contract.options.streams != ANY or bundle.target.backend != "onnxruntime":
        raise UsageError(f"{bundle.path} is {bundle.target.name}{bundle.contract.options.suffix}; expected a "
                         "bundle for any number of streams under ONNX Runtime. Make one: satexport cpu "
                         "--int8 --model sat-t --streams dynamic.")
    runtime = import_runtime("onnxruntime")
    session = runtime.InferenceSession(str(bundle.graph), make_options(1), providers=["CPUExecutionProvider"])
    contract = bundle.contract
    chunks = np.resize(make_noise(*contract.input.shape[1:]), (POOL, *contract.input.shape[1:]))
    states = [np.repeat(array[:1], POOL, axis=0) for array in bundle.initial_cache()]
    outputs = [contract.scores.name, *(spec.name for spec in contract.cache_out)]
    found: dict[str, list[float]] = {str(size): [] for size in sizes}
    first = 0
    with progress("measure", (rounds + 1) * len(sizes)) as advance:
        for number in range(rounds + 1):
            for size in sizes:
                rows = (np.arange(first, first + size)) % POOL
                start = time.process_time()
                fed = {spec.name: state[rows] for spec, state in zip(contract.cache_in, states, strict=True)}
                _, *after = session.run(outputs, {contract.input.name: chunks[rows], **fed})
                for state, new in zip(states, after, strict=True):
                    state[rows] = new
                if number:
                    found[str(size)].append((time.process_time() - start) * 1000)
                first = (first + size) % POOL
                advance()
    return found


def measure(bundle: Bundle) -> dict[str, Any]:
    """Measure the steps of a bundle and return what docs/results/fleet keeps of them."""
    machine, contract = origin(), bundle.contract
    return {"kind": "fleet", "bundle": f"{contract.variant}/{bundle.target.name}",
            "checkpoint": contract.checkpoint.name, "hop_seconds": contract.hop_seconds,
            "state_bytes": state_bytes(contract), "times_ms": measure_steps(bundle),
            **{key: machine[key] for key in ("versions", "cpu", "cpu_cores", "cpu_flags", "system")}}


def simulate_fleets(found: dict[str, Any]) -> list[dict[str, Any]]:
    """Return a row for each fleet: the fewest cores by both ways, and how they serve."""
    times, hop, rows = interpolate(found["times_ms"]), found["hop_seconds"], []
    each = most_microphones(hop, times)
    for microphones in FLEETS:
        cores = math.ceil(microphones / each)
        own = simulate_own(Load(microphones=math.ceil(microphones / cores), hop=hop), times)
        shared = fewest_cores(microphones, hop, times)
        load = Load(microphones=microphones, hop=hop, seconds=seconds_of(microphones, hop))
        rows.append({"microphones": microphones, "own": {"cores": cores, **vars(own)},
                     "queue": {"cores": shared, **vars(simulate(load, shared, QUEUE, times))},
                     "state_gb": microphones * found["state_bytes"] / 1e9})
    return rows


def tables(found: dict[str, Any]) -> list[Table]:
    """Return the table of step times and that of the fleets."""
    times = {size: np.percentile(values, (50, 99)) for size, values in found["times_ms"].items()}
    steps = Table(title="step times", head=["chunks in a step", "median, ms", "p99, ms", "ms per chunk"],
                  rows=[[size, f"{p50:.1f}", f"{p99:.1f}", f"{p50 / int(size):.2f}"]
                        for size, (p50, p99) in times.items()])
    fleets = Table(
        title="fleets", texts=2, head=["microphones", "work shared by", "cores", "load", "chunks in a step",
                                       "p50, s", "p99, s", "state, GB"], rows=[
            [f"{row['microphones']:,}", how, str(row[key]["cores"]), f"{row[key]['load']:.0%}",
             f"{row[key]['batch']:.0f}", f"{row[key]['p50']:.2f}", f"{row[key]['p99']:.2f}",
             f"{row['state_gb']:.1f}"]
            for row in found["fleets"]
            for key, how in (("own", "microphones of each core"), ("queue", "one queue"))])
    return [steps, fleets]


def page_part(found: dict[str, Any]) -> str:
    """Return the generated part of docs/serving.md."""
    versions = ", ".join(f"{name} {found['versions'][name]}" for name in VERSIONS
                         if name in found["versions"])
    steps, fleets = (markdown_rows(table) for table in tables(found))
    machine = f"{found['cpu']}, {found['cpu_cores']} cores ({' '.join(found['cpu_flags'])})"
    measured = (f"Measured with {found['bundle']} (checkpoint: {found['checkpoint']}; any number of streams) "
                f"on {machine}; {versions}; CPU time of one thread, {len(found['times_ms']['1'])} steps of "
                f"each size in turns, the states of {POOL} microphones in memory:")
    simulated = (f"Simulated from these times, with a chunk every {found['hop_seconds']:g} s that arrives "
                 f"{LATE_MS:g} ms late on average:")
    return "\n\n".join((textwrap.fill(measured, 118), steps, textwrap.fill(simulated, 118), fleets))


def write_page(found: dict[str, Any], page: Path = PAGE) -> None:
    """Write the generated part of docs/serving.md. Raises `DataError` if the page has no place for it."""
    before, begin, rest = page.read_text("utf-8").partition(BEGIN)
    if not begin or END not in rest:
        raise DataError(f"{page} lacks the lines {BEGIN} and {END}, between which the figures stand.")
    write_text(page, f"{before}{BEGIN}\n\n{page_part(found)}\n\n{END}{rest.partition(END)[2]}")


def main() -> None:
    """Measure and simulate, and write the page if the command line asks for it."""
    parser = command.Parser("fleet", __doc__)
    parser.add_argument("bundle", nargs="?", type=command.folder, metavar="BUNDLE",
                        help="for any number of streams; without it the step times of docs/results/fleet")
    parser.add_argument("--write", action="store_true", help="write docs/results/fleet and docs/serving.md")
    options = parser.parse_args()
    path = FOLDER / f"{cpu_name(origin())}.json"
    if options.bundle:
        found = measure(open_bundle(options.bundle))
    else:
        files = [path] if path.is_file() else sorted(FOLDER.glob("*.json"))
        if not files:
            parser.error(f"{FOLDER} has no step times; expected a BUNDLE to measure.")
        path = files[0]
        found = json.loads(path.read_bytes())
    with progress("simulate", None):
        found["fleets"] = simulate_fleets(found)
    for table in tables(found):
        print_table(table)
    if options.write:
        write_json(path, found)
        write_page(found)


if __name__ == "__main__":
    command.run(main)
