"""How many cores a fleet of microphones needs: a simulation from step times that are measured here.

    python -m benchmarks.fleet build/sat-t-2s/cpu-int8-dynamic             measure step times, and simulate
    python -m benchmarks.fleet build/sat-t-2s/cpu-int8-dynamic --write     also write docs/serving.md
    python -m benchmarks.fleet --write          only that, from the step times in docs/results/fleet
    python -m benchmarks.fleet --growth "sat-t-2s, cpu-int8" --write       with step times of `make growth`

`benchmarks.fleet_simulation` says what is simulated. Two kinds of steps are measured, with the states of
many microphones in memory: of one chunk by the bundle's own step, as processes run it; and of 1 to 64 chunks
at once by ONNX Runtime, as Triton runs the graph.
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
    EACH,
    LATE_MS,
    MOST_LOAD,
    PARTITIONS,
    SECONDS,
    WARM_SECONDS,
    Load,
    batching_of,
    interpolate,
    most_microphones,
    simulate_core,
)
from benchmarks.parts import machine_text, write_part
from benchmarks.tables import RESULTS, cpu_name, read_results
from satexport.backends.backend import LoadOptions, load_step
from satexport.backends.onnxruntime.step import make_options
from satexport.bundle.contract import ANY, state_bytes
from satexport.bundle.folder import Bundle, open_bundle
from satexport.errors import UsageError
from satexport.files import write_json
from satexport.measure.latency import make_noise
from satexport.models.families import named_variant
from satexport.origin import origin
from satexport.progress import progress
from satexport.report.markdown import markdown_rows
from satexport.report.table import Table
from satexport.report.terminal import print_table
from satexport.runtimes import import_runtime
from satexport.triton.serving import find_serving

SIZES = 1, 2, 4, 8, 16, 32, 64       # batches that are measured
FLEETS = 1_000, 10_000, 100_000      # microphones
POOL = 128           # microphones whose states are in memory while a step is measured
COPIES = 2           # of a state: a step reads one and writes the other, in Triton as well
SERVING = "triton-cpu"
ROUNDS = 20          # measured steps of each size, each after one that is not counted
OWN_STEPS = 200      # measured steps of one chunk by the bundle's own step
WARM_UP = 5          # such steps before them that are not counted
PAGE = RESULTS.parent / "serving.md"
FOLDER = RESULTS / "fleet"
BEGIN, END = "<!-- python -m benchmarks.fleet --write -->", "<!-- python -m benchmarks.fleet end -->"


def measure_steps(bundle: Bundle, rounds: int = ROUNDS,
                  sizes: Sequence[int] = SIZES) -> dict[str, list[float]]:
    """Return the milliseconds of steps by size of batch, as Triton runs the graph: all chunks at once, their
    states copied from a pool and back. They are CPU time of one thread, which is the time on a core that does
    nothing else, also if other programs run meanwhile. The sizes take turns. Raises `UsageError` for a
    bundle that does not run any number of streams, or not under ONNX Runtime."""
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
    names = [spec.name for spec in contract.cache_in]
    found: dict[str, list[float]] = {str(size): [] for size in sizes}
    first = 0
    with progress("measure", rounds * len(sizes)) as advance:
        for size, counts in [(size, counts) for size in sizes for counts in (False, True)] * rounds:
            rows = np.arange(first, first + size) % POOL
            start = time.process_time()
            fed = {name: state[rows] for name, state in zip(names, states, strict=True)}
            _, *after = session.run(outputs, {contract.input.name: chunks[rows], **fed})
            for state, new in zip(states, after, strict=True):
                state[rows] = new
            if counts:  # the first step after one of another size takes longer
                found[str(size)].append((time.process_time() - start) * 1000)
                advance()
            first = (first + size) % POOL
    return found


def measure_each(bundle: Bundle, steps: int = OWN_STEPS) -> list[float]:
    """Return the milliseconds of steps of one chunk by the bundle's own step with one thread, as above, each
    of another microphone of a pool."""
    step = load_step(bundle, LoadOptions(threads=1))
    x, found = make_noise(*bundle.contract.input.shape[1:])[:1], []
    caches = [step.initial_cache(1) for _ in range(POOL)]
    with progress("measure single chunks", steps) as advance:
        for number in range(-WARM_UP, steps):
            start = time.process_time()
            _, caches[number % POOL] = step(x, caches[number % POOL])
            if number >= 0:
                found.append((time.process_time() - start) * 1000)
                advance()
    step.close()
    return found


def measure(bundle: Bundle) -> dict[str, Any]:
    """Measure the steps of a bundle and return what docs/results/fleet keeps of them."""
    machine, contract = origin(), bundle.contract
    how = (f"CPU time of one thread, the states of {POOL} microphones in memory; one chunk by the bundle's "
           f"own step ({OWN_STEPS} steps), and 1 to {max(SIZES)} at once by ONNX Runtime, as Triton runs "
           f"them ({ROUNDS} steps of each size, in turns)")
    times = measure_steps(bundle)  # first, as it refuses a bundle
    return {"kind": "fleet", "how": how, "bundle": f"{contract.variant}/{bundle.target.name}",
            "checkpoint": contract.checkpoint.name, "hop_seconds": contract.hop_seconds,
            "state_bytes": state_bytes(contract), "times_ms": times,
            "own_ms": measure_each(bundle),
            **{key: machine[key] for key in ("versions", "cpu", "cpu_cores", "cpu_flags", "system")}}


def take_growth(name: str) -> dict[str, dict[str, Any]]:
    """Return the same, by CPU, from what `make growth` measured with one thread: quantiles of steps in
    bursts. Raises `UsageError` if it did not measure this."""
    variant, _, target = name.partition(", ")
    found = {}
    for path in sorted(RESULTS.glob("*.json")):
        results = read_results(path)
        if growth := results.get("growth", {}).get(name):
            rows = growth["figures"]
            found[path.stem] = {
                "kind": "fleet", "bundle": f"{variant}/{target}", "checkpoint": "random (seed 0)",
                "how": ("one thread; `make growth` measured the median, p90 and p99 of steps in bursts, and "
                        "of them the other quantiles are interpolated; row 1 is the bundle for one stream, "
                        "the others are the one for any number, whose step runs 8 chunks at a time (Triton "
                        "runs all at once, which takes a little longer)"),
                "slowest": "p99",
                "hop_seconds": named_variant(variant).delay,
                "state_bytes": round(rows["1"]["state_mb"] * 1e6),
                "times_ms": {size: _draws(row) for size, row in rows.items()}, "versions": growth["versions"],
                **{key: results[key] for key in ("cpu", "cpu_cores", "cpu_flags", "system")}}
    if not found:
        raise UsageError(f"--growth {name}: `make growth` has not measured it on any CPU; expected a model "
                         'and a target as in docs/results, such as "sat-t-2s, cpu-int8".')
    return found


def _draws(row: dict[str, float]) -> list[float]:
    """Times at the percentiles 0 to 100: the faster half as the median, the slowest as the p99."""
    points = [row["burst_median_ms"], row["burst_p90_ms"], row["burst_p99_ms"]]
    return [float(time) for time in np.interp(np.arange(101), (50, 90, 99), points)]


def simulate_fleets(found: dict[str, Any]) -> list[dict[str, Any]]:
    """Return a row for each fleet: the fewest cores by both ways, and how they serve."""
    hop, triton = found["hop_seconds"], batching_of(find_serving(SERVING))
    ways = {"own": (EACH, interpolate({"1": _own(found)}, EACH.most)),
            "triton": (triton, interpolate(found["times_ms"], triton.most))}
    most = {way: most_microphones(hop, *how) for way, how in ways.items()}
    rows = []
    for microphones in FLEETS:
        row: dict[str, Any] = {"microphones": microphones,
                               "state_gb": COPIES * microphones * found["state_bytes"] / 1e9}
        for way, how in ways.items():
            cores = math.ceil(microphones / most[way])
            load = Load(microphones=math.ceil(microphones / cores), hop=hop)
            row[way] = {"cores": cores, **vars(simulate_core(load, *how))}
        rows.append(row)
    return rows


def _own(found: dict[str, Any]) -> list[float]:
    """Milliseconds of a step of one chunk by the bundle's own step."""
    return list(found.get("own_ms") or found["times_ms"]["1"])


def tables(found: dict[str, Any]) -> list[Table]:
    """Return the table of step times and that of the fleets."""
    measured = dict(found["times_ms"])
    if own := found.get("own_ms"):
        measured = {"1, by the bundle's own step": own, **measured}
    rows = [[name, f"{np.median(values):.1f}", f"{max(values):.1f}",
             f"{np.median(values) / int(name.partition(',')[0]):.2f}"] for name, values in measured.items()]
    steps = Table(title="step times", rows=rows, head=[
        "chunks in a step", "median, ms", f"{found.get('slowest', 'slowest')}, ms", "ms per chunk"])
    fleets = Table(
        title="fleets", texts=2, head=["microphones", "cores run", "cores", "load", "chunks in a step",
                                       "p50, s", "p99, s", "state, GB"], rows=[
            [f"{row['microphones']:,}", how, str(row[way]["cores"]), f"{row[way]['load']:.0%}",
             f"{row[way]['batch']:.0f}", f"{row[way]['p50']:.2f}", f"{row[way]['p99']:.2f}",
             f"{row['state_gb']:.1f}"]
            for row in found["fleets"] for way, how in (("own", "processes"), ("triton", "Triton"))])
    return [steps, fleets]


def page_part(found: dict[str, Any]) -> str:
    """Return what docs/serving.md says about the step times of a CPU."""
    steps, fleets = (markdown_rows(table) for table in tables(found))
    measured = (f"{found['bundle']} for any number of streams (checkpoint: {found['checkpoint']}) on "
                f"{machine_text(found)}; {found['how']}{found['note']}:")
    simulated = (f"Simulated from these times, those of other sizes interpolated, with a chunk every "
                 f"{found['hop_seconds']:g} s that arrives {LATE_MS:g} ms late on average; {SECONDS:g} s of "
                 f"audio on each of {PARTITIONS} cores, of which the first {WARM_SECONDS:g} s do not count; "
                 f"load at most {MOST_LOAD:.0%}:")
    return "\n\n".join((textwrap.fill(measured, 118), steps, textwrap.fill(simulated, 118), fleets))


def write_page(page: Path = PAGE, folder: Path = FOLDER) -> None:
    """Write the generated part of docs/serving.md, about all CPUs in a folder. Raises `DataError` if the page
    has no place for it."""
    write_part(page, BEGIN, END, folder, page_part)


def main() -> None:
    """Measure and simulate, and write the page if the command line asks for it."""
    parser = command.Parser("fleet", __doc__)
    parser.add_argument("bundle", nargs="?", type=command.folder, metavar="BUNDLE",
                        help="for any number of streams; without it the step times of docs/results/fleet")
    parser.add_argument("--growth", metavar="NAME", help="take step times that `make growth` measured")
    parser.add_argument("--note", metavar="TEXT", help="said on the page, such as what else ran meanwhile")
    parser.add_argument("--write", action="store_true", help="write docs/results/fleet and docs/serving.md")
    options = parser.parse_args()
    if options.bundle:
        fleets = {cpu_name(origin()): measure(open_bundle(options.bundle))}
    elif options.growth:
        fleets = take_growth(options.growth)
    else:
        fleets = {path.stem: json.loads(path.read_bytes()) for path in sorted(FOLDER.glob("*.json"))}
    if not fleets:
        parser.error(f"{FOLDER} has no step times; expected a BUNDLE to measure.")
    for name, found in fleets.items():
        found["note"] = f", {options.note}" if options.note else found.get("note", "")
        with progress("simulate", None):
            found["fleets"] = simulate_fleets(found)
        for table in tables(found):
            print_table(table)
        if options.write:
            write_json(FOLDER / f"{name}.json", found)
    if options.write:
        write_page()


if __name__ == "__main__":
    command.run(main)
