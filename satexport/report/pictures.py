"""Pictures of reports."""

from __future__ import annotations

import io
import logging
import os
from collections.abc import Callable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from satexport.files import cache_folder, write_bytes
from satexport.memory import MB

if TYPE_CHECKING:
    from matplotlib.figure import Figure

Draw = Callable[[Mapping[str, Any]], bytes]


def write_picture(path: Path, draw: Draw, report: Mapping[str, Any]) -> list[str]:
    """Draw a report into a PNG; returns a note, in a list, where matplotlib is not installed. Raises
    `RunError` where the disk or folder refuses."""
    try:
        content = draw(report)
    except ModuleNotFoundError as error:
        return [f"no {path.name}: {error.name} is not installed: pip install 'satexport[measure]'"]
    write_bytes(path, content)
    return []


def drift_png(report: Mapping[str, Any]) -> bytes:
    """The bytes of a PNG of a parity report: mean score difference of each chunk over the stream, its
    quantiles, and what is heard again at the end. Raises `ModuleNotFoundError` where matplotlib is not
    installed."""
    figure = new_figure(10, 4)
    (over, found), *_ = report["differences"].items()
    curve = np.asarray(report["curve"])
    axes = figure.subplots()
    axes.plot(curve, linewidth=0.8, label="mean over the classes, each chunk")
    if drift := report["drift"]:
        axes.axvspan(found["chunks"], len(curve) - 1, alpha=0.15,
                     label=f"the first chunks again: drift {drift['drift']:+.1%} of the mean")
    for name in ("p50", "p90", "p99"):
        axes.axhline(found[name], color="grey", linewidth=0.6, linestyle=":")
        axes.annotate(name, (1, found[name]), xycoords=("axes fraction", "data"), fontsize="x-small")
    axes.set(title=f"{report['variant']} / {report['target']} against PyTorch fp32, {over}", xlabel="chunk",
             ylabel="score difference", ylim=(0, None))
    axes.legend(fontsize="small")
    axes.spines[["top", "right"]].set_visible(False)
    return png_of(figure)


def new_figure(width: float, height: float) -> Figure:
    """An empty picture, in inches. matplotlib keeps its list of fonts in satexport's cache folder, or in a
    temporary one where that cannot be written, which it need not say."""
    with suppress(RuntimeError):  # no home folder
        os.environ.setdefault("MPLCONFIGDIR", str(cache_folder() / "matplotlib"))
    logging.getLogger("matplotlib").setLevel(logging.ERROR)
    from matplotlib.figure import Figure

    return Figure(figsize=(width, height), layout="constrained")


def png_of(figure: Figure) -> bytes:
    content = io.BytesIO()
    figure.savefig(content, format="png", dpi=110)
    return content.getvalue()


def measure_png(report: Mapping[str, Any]) -> bytes:
    """The bytes of a PNG that compares bundles and PyTorch eager: latency, memory by kind, operations
    beside the paper's. Raises `ModuleNotFoundError` where matplotlib is not installed."""
    rows = [*report["bundles"], *report["eager"]]
    names, places = [row["name"] for row in rows], range(len(rows))
    figure = new_figure(15, 1.8 + 0.6 * len(rows))
    latency, memory, operations = figure.subplots(1, 3, sharey=True)
    for offset, kind in ((-0.2, "burst"), (0.2, "paused")):
        medians = [row[kind]["median_ms"] for row in rows]
        latency.barh([place + offset for place in places], medians, 0.36, label=f"{kind}, median to p99",
                     xerr=[[0] * len(rows), [row[kind]["p99_ms"] - row[kind]["median_ms"] for row in rows]])
    latency.set(title="one step", xlabel="ms", yticks=places, yticklabels=names)
    for number, kind in enumerate(("weights", "state", "transient", "resident")):
        memory.barh([place - 0.3 + 0.2 * number for place in places],
                    [(row["memory_bytes"][kind] or 0) / MB for row in rows], 0.18, label=kind)
    memory.barh([place + 0.5 for place in places],
                [(row["paper"] or {}).get("memory_mb") or 0 for row in rows], 0.1, color="grey",
                label="paper")
    memory.set(title="memory by kind", xlabel="MB", xscale="log")
    none = {"model": 0, "front_end": 0}  # PyTorch's are not counted
    model, front_end = ([row.get("operations", none)[part] / 1e9 for row in rows] for part in none)
    operations.barh(places, model, 0.4, label="model")
    operations.barh(places, front_end, 0.4, left=model, label="front end")
    operations.barh([place + 0.3 for place in places],
                    [(row["paper"] or {}).get("gflops") or 0 for row in rows], 0.1, color="grey",
                    label="paper")
    operations.set(title="operations of a chunk", xlabel="GFLOP")
    for axes in (latency, memory, operations):
        axes.legend(fontsize="small")
        axes.spines[["top", "right"]].set_visible(False)
    latency.invert_yaxis()
    threads = ", ".join(dict.fromkeys(str(row["threads"]) for row in rows))
    figure.suptitle(f"{report['origin']['cpu']}, {threads} threads", fontsize="medium")
    return png_of(figure)
