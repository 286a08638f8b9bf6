"""Write the results pages from docs/results/*.json: a page per CPU, their index, and README's headline
figures.

    python -m benchmarks.tables                             only write the pages again
    python -m benchmarks.tables build/results/cases.json    first take the results of `satexport matrix`

A JSON file contains the figures of every case that ran on one kind of CPU. The pages are generated only from
these files, so that a run on one CPU changes neither the figures nor the page of another. If a CPU or
installation cannot run a case, its file has the reason, unless it has figures of an earlier run.
docs/performance.md describes what was learned about speed.
"""

from __future__ import annotations

import json
import re
import textwrap
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from benchmarks import command
from benchmarks.cases import Cases, CaseTable, QuotedTable, read_cases
from benchmarks.peers.page import peers_page
from benchmarks.peers.registry import PEERS
from satexport.errors import DataError
from satexport.files import write_json, write_text
from satexport.report.blocks import describe_executed
from satexport.report.figure import Figure
from satexport.report.figures import BRIEF_CASE_FIGURES, MEASURE_FIGURES, values
from satexport.report.markdown import align_rows, markdown_rows
from satexport.report.records import CaseResult, MatrixReport
from satexport.report.serialize import read_report
from satexport.report.table import Table

ROOT = Path(__file__).parents[1]
RESULTS = ROOT / "docs" / "results"
README = ROOT / "README.md"
BEGIN, END = "<!-- headline figures: make results -->", "<!-- headline figures end -->"
FIGURES: Sequence[Figure[Any]] = BRIEF_CASE_FIGURES
FAILED = "failed: "  # begins the reason of a case that ran and failed
MACHINE = ("cpu", "cpu_cores", "cpu_flags", "system")  # keys of an origin
NAMED_FLAGS = ("avx512_vnni", "avx_vnni", "avx512_bf16", "amx_int8", "asimddp", "i8mm", "bf16")  # of a CPU
GROWTH = ("burst_median_ms", "chunks_per_core_second", "times_one_stream", "cpu_ms", "cpu_percent",
          "resident_mb", "load_s")  # keys of the figures in the tables of growth
VERSIONS = ("satexport", "onnxruntime", "openvino", "torch", "onnx", "python")


def cpu_name(origin: Mapping[str, Any]) -> str:
    """Return the file name of a CPU's results without its ending: model, cores and NAMED_FLAGS, such as
    "amd-epyc-2-cores-avx512_vnni-avx512_bf16"."""
    model = re.sub(r"[^a-z0-9]+", "-", str(origin["cpu"]).lower()).strip("-")
    flags = [flag for flag in origin["cpu_flags"] if flag in NAMED_FLAGS]
    return "-".join([model, str(origin["cpu_cores"]), "cores", *flags])


def read_results(path: Path) -> dict[str, Any]:
    """Return the content of a CPU's JSON file; {"cases": {}} if there is none."""
    return json.loads(path.read_bytes()) if path.is_file() else {"cases": {}}


def take_results(path: Path) -> None:
    """Take the results in the report of a matrix into the files of the CPUs that they were measured on.
    Raises `DataError` if it is another report."""
    report = read_report(path)
    if not isinstance(report, MatrixReport):
        raise DataError(f"{path} is not the report of a matrix; expected the JSON that `satexport matrix "
                        "benchmarks/cases.toml` writes.")
    for case in report.cases:
        machine = case.measured.origin if case.measured else report.origin
        file = RESULTS / f"{cpu_name(machine)}.json"
        results = read_results(file) | {"kind": "results", **{key: machine[key] for key in MACHINE}}
        is_whole = case.measured and case.parity
        if "figures" in results["cases"].get(case.name, {}) and not is_whole and not case.is_error:
            what = "not proven" if case.measured else "not measured"
            print(f"{case.name} was {what}, and its earlier figures stay"
                  f"{f': {case.why_not}' if case.why_not else '.'}")
        elif is_whole or case.why_not:
            write_json(file, results | {"cases": {**results["cases"], case.name: _stored(case)}})


def _stored(case: CaseResult) -> dict[str, Any]:
    """Return a result as a file of docs/results has it."""
    if not case.parity or not case.measured or not case.entry:
        return {"why_not": f"{FAILED if case.is_error else ''}{case.why_not}"}
    scored = case.parity.labelled_set
    return {"figures": values(case), "over": next(iter(case.parity.differences)),
            "executed": case.parity.executed, "threads": case.entry.threads,
            "set": scored.origin["kind"] if scored else None,  # not its path
            "steps": case.measured.settings["steps"], "versions": case.measured.origin["versions"]}


def read_peers(path: Path) -> dict[str, Any]:
    """Return the content of a CPU's JSON file of peers; {"models": {}} if there is none."""
    return json.loads(path.read_bytes()) if path.is_file() else {"models": {}}


def page(results: Mapping[str, Any], cases: Cases) -> str:
    """Return a CPU's page as Markdown."""
    by_case: Mapping[str, Mapping[str, Any]] = results["cases"]
    blocks = [f"# Results: {results['cpu']}, {results['cpu_cores']} cores", _preface(results)]
    for table in cases.tables:
        blocks += [f"## {table.title}", *_table(table, by_case)]
    blocks += _growth(results.get("growth", {}))
    return "\n\n".join(block.strip() for block in blocks) + "\n"


def _growth(growth: Mapping[str, Mapping[str, Any]]) -> Iterator[str]:
    """Yield a table for each bundle that `benchmarks.growth` measured with several numbers of streams."""
    figures = [figure for figure in MEASURE_FIGURES if figure.key in GROWTH]
    for name, measured in growth.items():
        versions = ", ".join(f"{package} {_version(measured, package)}" for package in VERSIONS
                             if package in measured["versions"])
        yield f"## Growth: {name}"
        yield ("One stream is the bundle for one stream; several run in one step of a bundle for any number. "
               "\"times one stream\" compares the two in turns. One thread, random weights; `make growth`; "
               f"{versions}.")
        yield markdown_rows(Table(title="", head=["streams", *(figure.head for figure in figures)], rows=[
            [count, *(figure.write(row.get(figure.key)) for figure in figures)]
            for count, row in measured["figures"].items()]))


def _preface(results: Mapping[str, Any]) -> str:
    ran = [case for case in results["cases"].values() if "figures" in case]
    versions = "; ".join(f"{name} {', '.join(ran_with)}" for name in VERSIONS if (ran_with := sorted(
        {_version(case, name) for case in ran if name in case["versions"]})))
    steps, threads = (" and ".join(map(str, sorted({case[key] for case in ran})))
                      for key in ("steps", "threads"))
    if not ran:
        return "Written by `make results`; do not edit. No case ran on this CPU."
    notes = Counter(case["note"] for case in ran if "note" in case)  # a case that runs again has none
    about = "".join(f"{count} of {len(ran)} cases: {note} " for note, count in notes.items())
    live = (" \"CPU time per chunk\" was measured with that default, in a run of its own." if any(
        "cpu_ms" in case["figures"] for case in ran) else "")
    return (f"{about}Written by `make results`; do not edit. CPU flags: `{' '.join(results['cpu_flags'])}`. "
            f"{versions}. {threads} threads that spin (`--spinning`), for the shortest latency; the default "
            f"is [another](../live.md).{live} Bursts in turns of at most {steps} steps. Each bundle ran in "
            "turns with PyTorch eager: quote the ratios, not the milliseconds. The column \"compared over\" "
            "gives the length of the stream for score differences, \"mAP on\" the labelled set for mAP "
            "(esc50: fold 4 of ESC-10, the ten classes of ESC-50). Weights are random except those of the "
            "demo and of the cases named `trained`. "
            "[definitions.md](../definitions.md) defines each figure.")


def _version(case: Mapping[str, Any], package: str) -> str:
    """Return the version of a package, without a build number such as OpenVINO's."""
    return str(case["versions"][package]).partition("-")[0]


def _table(table: CaseTable, by_case: Mapping[str, Mapping[str, Any]]) -> Iterator[str]:
    if table.note:
        yield table.note
    known = [name for name in table.cases if name in by_case]
    ran = [by_case[name]["figures"] for name in known if "figures" in by_case[name]]
    figures = [figure for figure in FIGURES if any(row.get(figure.key) is not None for row in ran)]
    if known:
        head = ["", *([figure.head for figure in figures] or [""]), "compared over", "mAP on"]
        rows = [_row(name, by_case[name], figures) for name in known]
        yield markdown_rows(Table(title="", head=head, rows=rows))
    if missing := [name for name in table.cases if name not in by_case]:
        yield f"Not run on this CPU yet: {', '.join(missing)}."
    yield from _computed(table, by_case)
    for quoted in table.quoted:
        yield from _quoted(quoted)


def _row(name: str, result: Mapping[str, Any], figures: Sequence[Figure[Any]]) -> list[str]:
    if "why_not" in result:
        return [name, f"not run: {result['why_not']}", *[""] * (max(1, len(figures)) + 1)]
    return [name, *(figure.write(result["figures"].get(figure.key)) for figure in figures),
            result["over"].removesuffix(" of stream"), result["set"] or "-"]


def _computed(table: CaseTable, by_case: Mapping[str, Mapping[str, Any]]) -> Iterator[str]:
    """Yield a list of the precisions that the runtimes compute in, if any runtime reports them."""
    lines = [f"- {name}: {sentence}" for name in table.cases
             for sentence in describe_executed(by_case.get(name, {}).get("executed", {}))]
    if lines:
        yield "As read back from the runtime:\n\n" + "\n".join(lines)


def _quoted(quoted: QuotedTable) -> Iterator[str]:
    yield f"**{quoted.title}** (published by others on their machine; not run here). {quoted.source}"
    yield markdown_rows(Table(title="", head=quoted.head, rows=quoted.rows))


def headline(cases: Cases) -> str:
    """Return README's table."""
    results = read_results(RESULTS / f"{cases.headline.cpu}.json")
    figures = [figure for key in cases.headline.figures for figure in FIGURES if figure.key == key]
    ran = {name: result for name in cases.headline.cases
           if "figures" in (result := results["cases"].get(name, {}))}
    rows = [[name, *(figure.write(result["figures"].get(figure.key)) for figure in figures)]
            for name, result in ran.items()]
    last: Mapping[str, Any] = list(ran.values())[-1]
    versions = ", ".join(f"{name} {_version(last, name)}" for name in VERSIONS if name in last["versions"])
    table = markdown_rows(Table(title="", head=["", *(figure.head for figure in figures)], rows=rows))
    origin = (f"{results['cpu']}, {results['cpu_cores']} cores ({' '.join(results['cpu_flags'])}), "
              f"{last['threads']} threads that spin (the default is as few as a live stream needs, without: "
              f"[docs/live.md](docs/live.md)); {versions}; random weights. Rows without openvino ran under "
              f"ONNX Runtime. All figures: [docs/results](docs/results/{cases.headline.cpu}.md).")
    return f"{table}\n\n{textwrap.fill(origin, 118, break_long_words=False, break_on_hyphens=False)}"


def index(results: Mapping[str, Mapping[str, Any]], peers: Sequence[str]) -> str:
    """Return the index page: a table of the CPUs that have results, and a list of those on which peers ran;
    `results` are by file name, `peers` are file names."""
    rows = [(f"[{name}]({name}.md)", cpu["cpu"], str(cpu["cpu_cores"]), " ".join(cpu["cpu_flags"]),
             str(sum("figures" in case for case in cpu["cases"].values())))
            for name, cpu in results.items()]
    head = ("results", "CPU", "cores", "flags", "cases")
    table = align_rows([head, *rows], [False, False, True, False, True])
    return ("# Results\n\nOne page for each kind of CPU that `make results` ran on. A run replaces only its "
            "own page.\n[definitions.md](../definitions.md) says what each figure means, "
            "[performance.md](../performance.md) what was learned.\n\n"
            f"{table}\n\n## Peers\n\nWhat else a user could run, in turns with satexport "
            "(`python -m benchmarks.peers`):\n\n"
            + "".join(f"- [{name}](peers/{name}.md)\n" for name in peers))


def pages(cases: Cases) -> dict[Path, str]:
    """Return every generated file and its content: a page per CPU, the index, and README."""
    by_cpu = {path.stem: read_results(path) for path in sorted(RESULTS.glob("*.json"))}
    contents = {RESULTS / f"{name}.md": page(results, cases) for name, results in by_cpu.items()}
    by_cpu_of_peers = {path.stem: read_peers(path) for path in sorted((RESULTS / "peers").glob("*.json"))}
    quoted = [part for table in cases.tables for part in table.quoted]
    contents |= {RESULTS / "peers" / f"{name}.md": peers_page(results, PEERS, quoted)
                 for name, results in by_cpu_of_peers.items()}
    contents[RESULTS / "README.md"] = index(by_cpu, list(by_cpu_of_peers))
    before, rest = README.read_text("utf-8").split(BEGIN)
    contents[README] = f"{before}{BEGIN}\n{headline(cases)}\n{END}{rest.split(END)[1]}"
    return contents


def write_pages() -> None:
    """Write all pages from the JSON files."""
    for path, content in pages(read_cases()).items():
        write_text(path, content)


def main() -> None:
    """Take the results that the command line names, then write the pages."""
    parser = command.Parser("tables", __doc__)
    parser.add_argument("report", nargs="?", type=Path, metavar="FILE.json",
                        help="the report of `satexport matrix benchmarks/cases.toml`, to take first")
    if (report := parser.parse_args().report) is not None:
        take_results(report)
    write_pages()


if __name__ == "__main__":
    command.run(main)
