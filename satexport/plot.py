"""Pictures of a measurement."""

from __future__ import annotations

import io
from collections.abc import Mapping
from typing import Any


def measure_png(report: Mapping[str, Any]) -> bytes:
    """The bytes of a PNG that compares bundles and PyTorch eager: latency, memory by kind, operations
    beside the paper's. Raises `ModuleNotFoundError` where matplotlib is not installed."""
    from matplotlib.figure import Figure

    rows = [*report["bundles"], *report["eager"]]
    names, places = [row["name"] for row in rows], range(len(rows))
    figure = Figure(figsize=(15, 1.8 + 0.6 * len(rows)), layout="constrained")
    latency, memory, operations = figure.subplots(1, 3, sharey=True)
    for offset, kind in ((-0.2, "burst"), (0.2, "paused")):
        medians = [row[kind]["median_ms"] for row in rows]
        latency.barh([place + offset for place in places], medians, 0.36, label=f"{kind}, median to p99",
                     xerr=[[0] * len(rows), [row[kind]["p99_ms"] - row[kind]["median_ms"] for row in rows]])
    latency.set(title="one step", xlabel="ms", yticks=places, yticklabels=names)
    for number, kind in enumerate(("weights", "state", "transient", "resident")):
        memory.barh([place - 0.3 + 0.2 * number for place in places],
                    [(row["memory_bytes"][kind] or 0) / 1e6 for row in rows], 0.18, label=kind)
    memory.barh([place + 0.5 for place in places],
                [(row["paper"] or {}).get("memory_mb", 0) for row in rows], 0.1, color="grey", label="paper")
    memory.set(title="memory by kind", xlabel="MB", xscale="log")
    none = {"model": 0, "front_end": 0}  # PyTorch's are not counted
    model, front_end = ([row.get("operations", none)[part] / 1e9 for row in rows] for part in none)
    operations.barh(places, model, 0.4, label="model")
    operations.barh(places, front_end, 0.4, left=model, label="front end")
    operations.barh([place + 0.3 for place in places],
                    [(row["paper"] or {}).get("gflops", 0) for row in rows], 0.1, color="grey", label="paper")
    operations.set(title="operations of a chunk", xlabel="GFLOP")
    for axes in (latency, memory, operations):
        axes.legend(fontsize="small")
        axes.spines[["top", "right"]].set_visible(False)
    latency.invert_yaxis()
    threads = ", ".join(dict.fromkeys(str(row["threads"]) for row in rows))
    figure.suptitle(f"{report['origin']['cpu']}, {threads} threads", fontsize="medium")
    content = io.BytesIO()
    figure.savefig(content, format="png", dpi=110)
    return content.getvalue()
