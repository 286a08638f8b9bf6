"""Which peers pass, and how much faster than the fastest of them satexport is.

A peer passes for a model if its scores are near enough to PyTorch's and it keeps the demo's mAP, both by the
gates of satexport's own target of that precision. Weights that are random have no mAP, so for these models
the peer's mAP of the demo counts.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from benchmarks.peers.peer import Peer
from satexport.targets import find_target

DEMO = "sat-t-2s-demo"   # the case whose weights are trained
TARGETS = {"fp32": "openvino-fp32", "bf16": "openvino-bf16", "int8": "openvino-int8"}  # whose gates count
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
    gates = find_target(TARGETS[peer.precision]).gates
    if largest is None or not largest <= gates.max_score_difference:
        return f"failed: a score differs by more than {gates.max_score_difference:g}"
    if "map_kept" not in demo:
        return "not judged: no mAP of the demo"
    if kept is None or not kept >= gates.map_kept:
        return f"failed: keeps less than {gates.map_kept:.1%} of the demo's mAP"
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
