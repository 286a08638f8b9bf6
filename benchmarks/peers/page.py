"""Write a CPU's page of peers from its JSON file in docs/results/peers."""

from __future__ import annotations

import textwrap
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from benchmarks.cases import QuotedTable
from benchmarks.peers.judge import (
    DIFFERENCES,
    KINDS,
    MAP_KEPT,
    Ratio,
    Results,
    Rows,
    find_goal,
    find_ratio,
    judge,
)
from benchmarks.peers.peer import BF16, Peer
from satexport.measure.schedule import PAUSE
from satexport.origin import DOT_PRODUCTS
from satexport.report.markdown import markdown_rows
from satexport.report.table import Table

PRECISIONS = ("fp32", "bf16", "int8")
PREFACE = (
    "Written by `python -m benchmarks.peers`; do not edit. All ran with the same weights on one machine, the "
    "rows of one precision in turns (A B A B), each in a process of its own. Compare the rows of one "
    "precision in one column, not the milliseconds with those of another page or table; where a column has "
    "times of several runs, the lines under the table say which. Models other than the demo have random "
    "weights. nncf has its defaults except `model_type=TRANSFORMER`.",
    "- A step goes from audio to scores in host memory. For exports that begin at the features, PyTorch "
    'computes these in one thread within the step; "features" is their part.\n'
    '- "largest" and "mean" are score differences from PyTorch over a minute of stream.\n'
    '- "mAP" is that of the demo over fold 4 of ESC-10, streamed (int8 was calibrated on fold 1), "kept" its '
    "share of PyTorch's.\n"
    '- Users start an export from a cache of zeros: "kept from zeros". To the exports\' advantage, all other '
    "figures, and the gate, are of the published cache after silence.\n"
    f"- The gate: a row keeps {MAP_KEPT['fp32']:.1%} of the demo's mAP in fp32, {MAP_KEPT['bf16']:.0%} in "
    f"bf16 and {MAP_KEPT['int8']:.0%} in int8, and no score differs by more than {DIFFERENCES['fp32']:g} "
    f"(fp32) or {DIFFERENCES['int8']:g}. A row that fails is in no ratio. A model with random weights has no "
    "mAP: that of the demo counts.")
SUMMARY = (
    "The faster one of ONNX Runtime and OpenVINO against the fastest peer of the same precision that passes: "
    "how many times as fast, and which two. The goal is for each column.")


def peers_page(results: Mapping[str, Any], peers: Mapping[str, Peer], quoted: Sequence[QuotedTable]) -> str:
    """Return the page as Markdown; `quoted` are published figures of others, printed at the end."""
    models: Results = results["models"]
    blocks = [f"# Peers: {results['cpu']}, {results['cpu_cores']} cores",
              *map(_wrapped, PREFACE),
              _wrapped(f"CPU flags: `{' '.join(results['cpu_flags'])}`.{_missing(results['cpu_flags'])} "
                       f"{_steps(models)}Versions: {_versions(models)}."),
              "## Satexport next to the fastest peer", _wrapped(SUMMARY), _summary(models, peers)]
    for case, rows in models.items():
        blocks += [f"## {case}", *_case(case, rows, models, peers)]
    for table in quoted:
        blocks += [f"## {table.title}",
                   f"Published by others on another machine; not run here. {table.source}",
                   markdown_rows(Table(title="", head=table.head, rows=table.rows))]
    return "\n\n".join(blocks) + "\n"


def _wrapped(text: str) -> str:
    """Return paragraphs, or points of a list, in lines of 80 columns."""
    return "\n".join(textwrap.fill(line, 80, subsequent_indent="  " if line.startswith("- ") else "",
                                   break_long_words=False, break_on_hyphens=False)
                     for line in text.splitlines())


def _missing(flags: Sequence[str]) -> str:
    """Return what this CPU lacks, as sentences."""
    bf16 = "" if BF16 & set(flags) else " It has no bf16, so bf16 was not run."
    return bf16 + ("" if DOT_PRODUCTS & set(flags) else " It has no dot products of int8, so int8 is slow.")


def _steps(models: Results) -> str:
    """Return of how many steps the times are, as a sentence; "" if there are none."""
    found = [[times[kind]["steps"] for kind in KINDS] for rows in models.values() for row in rows.values()
             for times in row.get("times", {}).values() if "burst" in times]
    burst, paused = map(min, zip(*found, strict=True)) if found else (0, 0)
    return (f"Times are medians of at least {burst} steps in bursts and {paused} after pauses of "
            f"{PAUSE:g} s. ") if found else ""


def _versions(models: Results) -> str:
    found: dict[str, set[str]] = {}
    for rows in models.values():
        for row in rows.values():
            for versions in (row, *row.get("times", {}).values()):
                for name, version in versions.get("versions", {}).items():
                    found.setdefault(name, set()).add(version)
    return ", ".join(f"{name} {' and '.join(sorted(versions))}" for name, versions in sorted(found.items()))


def _threads(rows: Rows) -> list[str]:
    return sorted({threads for row in rows.values() for threads in row.get("times", {})}, key=int)


def _summary(models: Results, peers: Mapping[str, Peer]) -> str:
    columns = [(threads, kind) for threads in sorted({
        threads for rows in models.values() for threads in _threads(rows)}, key=int) for kind in KINDS]
    if not columns:
        return "Not measured."
    rows = []
    for case in models:
        for precision in PRECISIONS:
            found = [find_ratio(peers, case, models, precision, *column) for column in columns]
            goal, times = find_goal(case, precision), [ratio.times for ratio in found if ratio]
            reached = sum(ratio >= goal for ratio in times)
            result = (f"missed in {len(times) - reached} of {len(times)}" if reached < len(times) else
                      f"reached in {reached} of {len(found)}" if reached < len(found) else "reached")
            rows.append([case, precision, *map(_ratio, found), f"{goal:g}",
                         result if times else "not measured"])
    head = ["", "precision", *(_column(*column) for column in columns), "goal", "result"]
    return markdown_rows(Table(title="", head=head, rows=rows, texts=2))


def _column(threads: str, kind: str) -> str:
    plural = "" if threads == "1" else "s"
    return f"{threads} thread{plural}, {'burst' if kind == 'burst' else 'after pauses'}"


def _ratio(ratio: Ratio | None) -> str:
    return f"{ratio.times:.2f} ({ratio.ours} / {ratio.peer})" if ratio else "not measured"


def _case(case: str, rows: Rows, models: Results, peers: Mapping[str, Peer]) -> Iterator[str]:
    """Yield the table of a case, and the peers that did not run."""
    columns = [(threads, kind) for threads in _threads(rows) for kind in KINDS]
    head = ["", "precision", *(f"{_column(*column)}, ms" for column in columns), "features, ms", "largest",
            "mean", "mAP", "kept", "kept from zeros", "gate"]
    ran = {name: peer for name, peer in peers.items() if "why_not" not in rows.get(name, {"why_not": ""})}
    yield markdown_rows(Table(title="", head=head, texts=2, rows=[
        [f"{peer.title} ({name})", peer.precision, *_times(rows[name], columns), *_scores(rows[name]),
         judge(peer, case, models)] for name, peer in ran.items()]))
    yield from _runs(rows)
    reasons = [f"- {name}: {rows[name]['why_not']}" for name in peers if "why_not" in rows.get(name, {})]
    reasons += [f"- {name} in {threads} threads: {found['why_not']}" for name in ran
                for threads, found in rows[name].get("times", {}).items() if "why_not" in found]
    reasons += [f"- {name}: not asked for" for name in peers if name not in rows]
    if reasons:
        yield "Not run:\n\n" + "\n".join(reasons)


def _runs(rows: Rows) -> Iterator[str]:
    """Yield which times are of which run, for each number of threads whose times are not all of one run."""
    for threads in _threads(rows):
        runs: dict[str, list[str]] = {}
        for name, row in rows.items():
            if run := row.get("times", {}).get(threads, {}).get("run"):
                runs.setdefault(run, []).append(name)
        if len(runs) > 1:
            yield f"Runs with {threads} thread{'' if threads == '1' else 's'}:\n\n" + "\n".join(
                f"- {run[:16].replace('T', ' ')} UTC: {', '.join(names)}"
                for run, names in sorted(runs.items()))


def _times(row: Mapping[str, Any], columns: Sequence[tuple[str, str]]) -> list[str]:
    times = row.get("times", {})
    cells = [_number(times.get(threads, {}).get(kind, {}).get("median_ms"), ".2f")
             for threads, kind in columns]
    features = next((found["features_ms"] for found in times.values() if found.get("features_ms")), None)
    return [*cells, _number(features, ".2f")]


def _scores(row: Mapping[str, Any]) -> list[str]:
    scores = row.get("scores") or {}
    return [_number(scores.get(key), form) for key, form in (
        ("largest", ".1e"), ("mean", ".1e"), ("map", ".4f"), ("map_kept", ".2%"),
        ("map_kept_from_zeros", ".2%"))]


def _number(value: float | None, form: str) -> str:
    return "-" if value is None else format(value, form)
