"""Write the results tables in docs/results: export, prove (over 10 minutes of audio) and measure every case.

    make results                                        all cases: an hour on two idle cores
    python -m benchmarks.results --only ced-base-10s    one case; `--table OpenVINO`: the cases of a table
    python -m benchmarks.tables                         only write the pages again, from docs/results/*.json

benchmarks/cases.toml lists the cases. Each result is written to the JSON file of this CPU as soon as its case
has run; results of other cases and other CPUs do not change. If this CPU or installation cannot run a case,
the file records the reason, unless it has figures of an earlier run. docs/performance.md describes
what was learned about speed.
"""

from __future__ import annotations

import shutil
import sys
import tempfile
from dataclasses import replace
from pathlib import Path
from typing import Any

from benchmarks import command
from benchmarks.cases import Case, read_cases
from benchmarks.tables import RESULTS, cpu_name, read_results, write_pages
from satexport.bundle.contract import USUAL_OPTIONS
from satexport.bundle.folder import Bundle, open_bundle
from satexport.errors import MissingError, SatexportError
from satexport.files import write_json
from satexport.measure.turns import MeasureOptions, measure
from satexport.models.checkpoint import WORDS, load_checkpoint
from satexport.models.families import find_variant
from satexport.origin import origin
from satexport.parity.protocols import find_gate_set
from satexport.pipeline.build import compile_bundle
from satexport.pipeline.export import export_onnx
from satexport.pipeline.plan import BuildOptions, ProofOptions, choose_gate_folds
from satexport.pipeline.prove import judge
from satexport.quantize.calibration_set import find_calibration
from satexport.report.figures import values
from satexport.tagging.tagger import load
from satexport.targets import find_target

ROOT = Path(__file__).parents[1]
LIVE_FIGURES = "cpu_ms", "cpu_percent"   # measured as `satexport run` loads a bundle
LIVE_STEPS = 10
FAILED = "failed: "  # begins the reason of a case that ran and failed


def run_case(case: Case, threads: int, minutes: float, esc10: Path) -> dict[str, Any]:
    """Export, prove and measure one bundle. Returns its figures, or the reason why it cannot run here."""
    if case.row.calibration == "esc50" and not esc10.is_dir():
        return {"why_not": f"needs ESC-10 or ESC-50 (--esc10 {esc10} is not there)"}
    if case.row.checkpoint not in WORDS and not (ROOT / case.row.checkpoint).is_file():
        return {"why_not": f"needs the checkpoint {case.row.checkpoint}, which is not there"}
    folder = Path(tempfile.mkdtemp(prefix=f"{case.name}-"))
    try:
        return _run(case, folder, threads, minutes, esc10)
    except MissingError as error:
        return {"why_not": str(error)}
    finally:
        shutil.rmtree(folder)


def _run(case: Case, folder: Path, threads: int, minutes: float, esc10: Path) -> dict[str, Any]:
    path, others = _make_bundles(case, folder, esc10)
    tagger = load(path, threads)
    data = str(esc10) if case.row.calibration == "esc50" else "synthetic"
    folds = choose_gate_folds(data, None, find_calibration(case.row.calibration))
    proof = ProofOptions(minutes=minutes if case.options == USUAL_OPTIONS else 1, threads=threads)
    parity = judge(tagger, proof, find_gate_set(tagger.bundle, data, folds))
    measured = measure([tagger.bundle, *others], MeasureOptions(threads=threads, spinning=True))
    live = measure([tagger.bundle], MeasureOptions(eager=False, steps=LIVE_STEPS)).bundles[0]
    (over, differences), *_ = parity.differences.items()
    figures = {**values(measured.bundles[0]), **{key: values(live)[key] for key in LIVE_FIGURES},
               **values(differences), **values(parity),
               **(values(parity.labelled_set) if parity.labelled_set else {})}
    return {"figures": figures, "over": over, "executed": parity.executed, "threads": threads,
            "set": parity.labelled_set.origin["kind"] if parity.labelled_set else None,  # not its path
            "steps": measured.settings["steps"], "versions": measured.origin["versions"]}


def _make_bundles(case: Case, folder: Path, esc10: Path) -> tuple[Path, list[Bundle]]:
    """Build the bundle of a case and return its path. For several streams, also return the bundle for one
    stream that it is compared with, measured in turns with it."""
    weights = case.row.checkpoint
    if weights not in WORDS:
        weights = str(ROOT / weights)
    checkpoint = load_checkpoint(weights, find_variant(case.model, case.delay, case.row.window or None))
    pairs = [(case.options, case.target)]
    if case.options.streams > 1:
        pairs.append((USUAL_OPTIONS, case.row.one_stream or case.target))
    paths = []
    for options, target in pairs:
        path = export_onnx(checkpoint, find_target("onnx"), folder, replace(options, cache_dtype="fp32")).path
        if target != "onnx":
            build = BuildOptions(calibration=find_calibration(case.row.calibration), recordings=esc10,
                                 cache_dtype=options.cache_dtype)
            path = compile_bundle(open_bundle(path), find_target(target), folder, build).path
        paths.append(path)
    return paths[0], [open_bundle(path) for path in paths[1:]]


def _save(case: Case, result: dict[str, Any]) -> None:
    """Write the result of a case to the JSON file of this CPU. If it could not run this time, for a reason
    other than a failure, its earlier figures stay."""
    machine = origin()
    path = RESULTS / f"{cpu_name(machine)}.json"
    results = read_results(path) | {"kind": "results", **{key: machine[key] for key in (
        "cpu", "cpu_cores", "cpu_flags", "system")}}
    before, reason = results["cases"].get(case.name, {}), result.get("why_not", "")
    if "figures" in before and reason and not reason.startswith(FAILED):
        print(f"{case.name} was not run, and its earlier figures stay: {reason}", flush=True)
        return
    write_json(path, results | {"cases": {**results["cases"], case.name: result}})


def main() -> None:
    """Run the cases that the command line selects, then write the pages."""
    parser = command.Parser("results", __doc__)
    parser.add_argument("--only", nargs="+", metavar="NAME", help="only these cases, such as sat-t-2s")
    parser.add_argument("--table", metavar="TITLE", help="only the cases of tables whose title contains this")
    parser.add_argument("--threads", type=command.whole_number(1, command.THREADS), default=2, metavar="N",
                        help="of each bundle; default 2")
    parser.add_argument("--esc10", type=command.folder, default=ROOT.parent / "shared" / "esc10",
                        metavar="FOLDER", help="ESC-10 or ESC-50, for the demo in int8")
    parser.add_argument("--minutes", type=command.minutes, default=10,
                        help="of audio over which to compare scores; default 10")
    options = parser.parse_args()
    tables = [table for table in read_cases().tables if not options.table or options.table in table.title]
    names = [case.name for table in tables for case in table.cases]
    if not tables:
        parser.error(f"no table has this title: {options.table}; benchmarks/cases.toml lists them.")
    if unknown := [name for name in options.only or () if name not in names]:
        parser.error(f"no case has this name: {', '.join(unknown)}; benchmarks/cases.toml lists them.")
    cases = [case for table in tables for case in table.cases
             if not options.only or case.name in options.only]
    failed = False
    for case in cases:
        print(case.name, flush=True)
        try:
            result = run_case(case, options.threads, options.minutes, options.esc10)
        except SatexportError as error:
            print(f"{case.name}: {error}", flush=True)
            result, failed = {"why_not": f"{FAILED}{error}"}, True
        _save(case, result)
    write_pages()
    if failed:
        sys.exit(1)


if __name__ == "__main__":
    command.run(main)
