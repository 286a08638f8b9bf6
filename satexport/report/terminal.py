"""Reports as tables on a terminal."""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from satexport.bundle.gates import verdict
from satexport.memory import MB
from satexport.terminal import printable, say

if TYPE_CHECKING:
    from satexport.report.records import BundleRecord

BAR, BAR_WIDTH = "█", 30
Cell = str | tuple[str, ...]  # of a table: a line, or several
UNFOLDED = 1000  # columns of a table that no terminal shows: a program reads whole names


def print_table(title: str, columns: Sequence[Cell], rows: Sequence[Sequence[Cell]], texts: int = 1) -> None:
    """Print a table on standard output; its first columns are texts, the others figures. Where a terminal is
    too narrow for the longest word of each column, one block of lines per row."""
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    console = Console(width=None if sys.stdout.isatty() else UNFOLDED)
    cells = [["\n".join(map(printable, (cell,) if isinstance(cell, str) else cell)) for cell in row]
             for row in (columns, *rows)]
    words = [max(len(word) for cell in column for word in (*cell.split(), ""))
             for column in zip(*cells, strict=True)]
    if sum(words) + 3 * len(words) + 1 > console.width:  # three for a line and two spaces
        _print_blocks(title, *cells)
        return
    table = Table(title=Text(printable(title)), title_justify="left", header_style="bold")
    for number, column in enumerate(cells[0]):
        table.add_column(Text(column), justify="left" if number < texts else "right", overflow="fold")
    for row in cells[1:]:
        table.add_row(*map(Text, row))
    with console.capture() as text:  # rich by itself ends the process where the reader of a pipe has gone
        console.print(table)
    print(text.get(), end="")


def _print_blocks(title: str, columns: Sequence[str], *rows: Sequence[str]) -> None:
    say(title)
    for row in rows:
        print()
        for column, cell in zip(columns, row, strict=True):
            name = f"{column}: " if column else ""
            if cell:
                say(f"{name}{cell}".replace("\n", ", "))


def print_export(report: Mapping[str, Any]) -> None:
    """Print an export's report for a person."""
    rows = []
    for stage in report["stages"]:
        moved = "-" if stage["from_before"] is None else f"{stage['from_before']:.1e}"
        name = stage["name"] + ("" if stage["kept"] else f" (not kept: {stage['why_not']})")
        rows.append((name, str(stage["nodes"]), f"{stage['bytes'] / MB:.1f}", moved,
                     f"{stage['from_pytorch']:.1e}"))
    print_table(f"{report['variant']} from {report['checkpoint']['name']}",
                ("stage", "nodes", "MB", "moved scores by", "from PyTorch"), rows)
    golden = report["golden"]
    say(f"{golden['chunks']} golden chunks: largest score difference from PyTorch "
        f"{golden['max_difference']:.1e}.")


def print_parity(report: Mapping[str, Any]) -> None:
    """Print a parity report for a person."""
    rows = [(name, str(found["chunks"]), f"{found['largest']:.1e}", f"{found['mean']:.1e}",
             f"{found['top1_agreement']:.4f}", f"{found['p99']:.1e}")
            for name, found in report["differences"].items()]
    print_table(f"{report['variant']} / {report['target']} against PyTorch fp32",
                ("over", "chunks", "largest", "mean", "top-1 agree", "p99 of a chunk's mean"), rows)
    print_drift(report)
    print_executed(report)
    if scored := report.get("set"):
        print_table(f"mAP on {scored['name']}, {scored['clips']} clips, "
                    f"{len(scored['average_precision'])} classes",
                    ("PyTorch, streamed", "bundle, streamed", "PyTorch, paper's clip protocol"),
                    [["-" if scored[key] is None else f"{scored[key]:.4f}"
                      for key in ("pytorch_map", "bundle_map", "clip_protocol_map")]])
    print_table("gates", ("gate", "", "condition"),
                [(gate["name"], gate["status"], gate["note"]) for gate in report["gates"]], texts=3)
    say(f"Parity: {report['verdict']}.")


def print_executed(report: Mapping[str, Any]) -> None:
    """Print the precisions that a runtime computes in, where it tells."""
    parts = [f"{part} {', '.join(f'{count} in {precision}' for precision, count in counts.items())}"
             for part, counts in report["executed"].items()]
    if parts:
        say(f"Computed, layers: {'; '.join(parts)}.")


def print_drift(report: Mapping[str, Any]) -> None:
    """Print what a parity report says of drift; nothing where there was no long stream."""
    if "drift" not in report:
        return
    found = report["drift"]
    say(f"Drift over {next(iter(report['differences']))}: " + (
        f"{found['drift']:+.1%} of the mean, by {found['chunks']} chunks heard first and again at the end."
        if found else "too short to tell."))


def _paper_figure(value: float | None) -> str:
    return "-" if value is None else f"{value:g}"


def print_measure(report: Mapping[str, Any]) -> None:
    """Print a measurement for a person: speed, then size."""
    speed, size = [], []
    for row in (*report["bundles"], *report["eager"]):
        burst, paused, times = row["burst"], row["paused"], row.get("times_eager")
        speed.append([
            row["name"],
            *(f"{kind[key]:.2f}" for kind in (burst, paused) for key in ("median_ms", "p90_ms", "p99_ms")),
            f"{row['real_time_factor']:.4f}", _throughput(row),
            f"{times['burst']:.2f} / {times['paused']:.2f}" if times else "-"])
        memory, operations, paper = row["memory_bytes"], row.get("operations"), row["paper"]
        size.append([
            row["name"],
            f"{operations['model'] / 1e9:.3f} + {operations['front_end'] / 1e9:.3f}" if operations else "-",
            *(_megabytes(memory[kind]) for kind in ("weights", "state", "transient", "resident")),
            f"{row['load_seconds']:.2f}",
            " / ".join(_paper_figure(paper[key]) for key in ("gflops", "memory_mb")) if paper else "-"])
    threads = ", ".join(dict.fromkeys(str(row["threads"]) for row in report["bundles"]))
    print_table(f"latency of one step, ms, {threads} threads",
                ("", "burst", "p90", "p99", "paused", "p90", "p99", "real-time", "chunks per core s",
                 "times eager"), speed)
    print_table("operations of a chunk and memory, MB",
                ("", "GFLOP + front end", "weights", "state", "transient", "resident", "load, s",
                 "paper: GFLOP / MB"), size)
    for text in dict.fromkeys(row["paper"]["note"] for row in report["bundles"] if row["paper"]):
        say(text)
    if report["gates"]:
        print_table("budgets", ("budget", "", "condition"),
                    [(gate["name"], gate["status"], gate["note"]) for gate in report["gates"]], texts=3)
        say(f"Budgets: {report['verdict']}.")


def print_engines(report: Mapping[str, Any]) -> None:
    """Print the engines of a board's build for a person; needs no package."""
    for engine in report["engines"]:
        measured, parity = engine["measure"], engine["parity"]
        if not measured:
            failed = "; ".join(f"{gate['name']} {gate['status']}: {gate['note']}" for gate in engine["gates"])
            say(f"{engine['precision']}: {failed}")
            continue
        burst, paused = measured["burst"], measured["paused"]
        differences = next(iter(parity["differences"].values()))
        say(f"{engine['precision']}: step {burst['median_ms']:.2f} ms (p90 {burst['p90_ms']:.2f}, p99 "
            f"{burst['p99_ms']:.2f}), after pauses {paused['median_ms']:.2f}; device memory "
            f"{measured['memory_bytes']['device'] / MB:.0f} MB; largest score difference "
            f"{differences['largest']:.1e}; built in {measured['build_seconds']:.0f} s; layers "
            f"{json.dumps(measured['executed'].get('layers', {}))}")
        for gate in engine["gates"]:
            say(f"  {gate['name']}: {gate['status']} ({gate['note']})")
    if report["kept"]:
        say(f"Kept: {report['kept']}.")


def print_bundle(record: BundleRecord) -> None:
    """Print what became of a target's bundle: what each layer costs where that was asked for, then one table
    over the export, the bundle and PyTorch."""
    parity, measured = record.proof.parity, record.proof.measured
    assert parity, "a bundle that was proven"
    if record.sensitivity:
        print_sensitivity(record.sensitivity)
    if record.left_out:
        say(f"In float: {', '.join(record.left_out)}.")
    rows = []
    for row in (*measured["bundles"], *measured["eager"]) if measured else ():
        memory, times = row["memory_bytes"], row.get("times_eager")
        rows.append([
            row["name"], str(row["threads"]),
            *(_megabytes(memory[kind]) for kind in ("weights", "state", "transient", "resident")),
            f"{row['burst']['median_ms']:.2f} / {row['paused']['median_ms']:.2f}", _throughput(row),
            f"{times['burst']:.2f} / {times['paused']:.2f}" if times else "-"])
    if rows:
        print_table("memory in MB, a step in ms", ("", "threads", "file", "state", "transient", "resident",
                    "burst / paused", "chunks per core s", "times eager"), rows)
    over, found = next(iter(parity["differences"].items()))
    for name, twin in record.proof.twins.items():
        its = next(iter(twin["differences"].values()))
        say(f"The {name} twin over {over}: a chunk's largest difference {its['largest']:.1e}, top-1 agrees "
            f"in {its['top1_agreement']:.1%}; mean difference {its['mean']:.1e}.")
    say(f"Against PyTorch fp32 over {over}: a chunk's largest difference {found['largest']:.1e}, top-1 "
        f"agrees in {found['top1_agreement']:.1%}; mean difference {found['mean']:.1e}, p50 "
        f"{found['p50']:.1e}, p90 {found['p90']:.1e}, p99 {found['p99']:.1e}.")
    print_drift(parity)
    print_executed(parity)
    print_table("gates", ("gate", "", "condition"),
                [(gate.name, gate.status, gate.note) for gate in record.proof.gates], texts=3)
    if record.finished:
        say(record.finished["summary"])
    say(f"Gates: {verdict(record.proof.gates)}. Bundle: {record.path}")


def print_sensitivity(report: Mapping[str, Any]) -> None:
    """Print what each layer costs, as bars, the most costly first."""
    rows = [("all", report["all"]), *((row["layer"], row) for row in report["layers"])]
    top = max(row["mean"] for _, row in rows[1:]) or 1.0
    print_table(f"{report['variant']} on {report['set']}: {report['definition']}",
                ("layer in int8", "", "mean", "largest", "top-1 agree"),
                [(name, "" if name == "all" else BAR * max(1, round(BAR_WIDTH * row["mean"] / top)),
                  f"{row['mean']:.1e}", f"{row['largest']:.1e}", f"{row['top1_agreement']:.4f}")
                 for name, row in rows], texts=2)


def _throughput(row: Mapping[str, Any]) -> str:
    """Chunks per core-second, of several streams also as many times those of one."""
    times = f" (x {row['times_one_stream']:.2f})" if "times_one_stream" in row else ""
    return f"{row['chunks_per_core_second']:.1f}{times}"


def _megabytes(count: float | None) -> str:
    return "-" if count is None else f"{count / MB:.2f}"
