"""Which peers pass, and how much faster than the fastest of them satexport is.

A peer passes for a model if it keeps the demo's mAP and its scores are near enough to PyTorch's. Weights that
are random have no mAP, so for these models the peer's mAP of the demo counts. The gates are the same for
satexport's bundles; its own gate for bf16 is stricter.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from benchmarks.peers.peer import Peer

DEMO = "sat-t-2s-demo"   # the case whose weights are trained
MAP_KEPT = {"fp32": 0.999, "bf16": 0.99, "int8": 0.99}        # of PyTorch's mAP of the demo, at least
DIFFERENCES = {"fp32": 1e-4, "bf16": 0.25, "int8": 0.25}      # largest of a score; tells a broken graph
GOALS = {"sat": {"fp32": 1.05, "bf16": 1.05, "int8": 1.1}}  # by the model's first word; others: 1
KINDS = ("burst", "paused")
Rows = Mapping[str, Mapping[str, Any]]  # the results of a case by peer
Results = Mapping[str, Rows]            # by case


@dataclass(frozen=True, kw_only=True)
class Ratio:
    """Satexport beside the fastest peer of a precision that passes."""

    ours: str          # name of the faster one of satexport's bundles
    peer: str
    times: float       # the peer's median / ours


def judge(peer: Peer, case: str, results: Results) -> str:
    """Return "passed", or why a peer does not: "failed: ..." or "not judged: ..."."""
    row = results.get(case, {}).get(peer.name, {})
    scores, demo = row.get("scores"), results.get(DEMO, {}).get(peer.name, {}).get("scores") or {}
    if not scores:
        return "not judged: no scores"
    largest, kept = scores["largest"], demo.get("map_kept")
    if largest is None or not largest <= DIFFERENCES[peer.precision]:
        return f"failed: a score differs by more than {DIFFERENCES[peer.precision]:g}"
    if "map_kept" not in demo:
        return "not judged: no mAP of the demo"
    if kept is None or not kept >= MAP_KEPT[peer.precision]:
        return f"failed: keeps less than {MAP_KEPT[peer.precision]:.1%} of the demo's mAP"
    return "passed"


def find_ratio(peers: Mapping[str, Peer], case: str, results: Results, precision: str, threads: str,
               kind: str) -> Ratio | None:
    """Return how many times as fast as the fastest passing peer of a precision satexport is, in the newest
    run that has times of both; None if there is none. `kind` is one of KINDS."""
    runs: dict[str, tuple[dict[str, float], dict[str, float]]] = {}  # ours, and others
    for name, peer in peers.items():
        times = results.get(case, {}).get(name, {}).get("times", {}).get(threads, {})
        if kind in times and peer.precision == precision and judge(peer, case, results) == "passed":
            run = runs.setdefault(times["run"], ({}, {}))
            run[0 if peer.is_ours else 1][name] = times[kind]["median_ms"]
    for _, (ours, others) in sorted(runs.items(), reverse=True):
        if ours and others:
            best, fastest = min(ours, key=ours.__getitem__), min(others, key=others.__getitem__)
            return Ratio(ours=best, peer=fastest, times=others[fastest] / ours[best])
    return None


def find_goal(case: str, precision: str) -> float:
    """Return the least ratio that satexport is to reach."""
    return GOALS.get(case.partition("-")[0], {}).get(precision, 1.0)
