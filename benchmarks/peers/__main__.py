"""Run satexport and its peers in turns, and write docs/results/peers: speed, score differences, mAP.

    python -m benchmarks.peers --install             everything, on an otherwise idle machine
    python -m benchmarks.peers --models sat-t        one model; results of the others stay as they are
    python -m benchmarks.peers --models sat-t --stages build scores      all that needs no idle machine
    python -m benchmarks.peers --models sat-t --stages times --threads 1

--install makes the environments under build/peers that are missing, from the lock files in benchmarks/peers.
What was built (exports, quantised graphs, programs) stays in build/peers/built until its sources change. A
peer that cannot run here is listed with the reason.
"""

from __future__ import annotations

import argparse
import os
import sys
from dataclasses import replace
from typing import Any

from benchmarks import command, tables
from benchmarks.peers.environments import install
from benchmarks.peers.peer import ROOT
from benchmarks.peers.registry import CASES, PEERS
from benchmarks.peers.run import REFERENCE, Runner
from satexport.errors import RunError
from satexport.files import write_json
from satexport.measure.schedule import STEPS, TURNS, plan_turns
from satexport.origin import origin
from satexport.progress import progress

STAGES = ("build", "scores", "times")


def main() -> None:
    """Run the models and peers that the command line selects, then write the pages."""
    options = read_options()
    needed = {REFERENCE} if "scores" in options.stages else set()
    peers = {name: PEERS[name] for name in PEERS if name in {*needed, *options.peers}}
    if options.install:
        for environment in dict.fromkeys(peer.environment for peer in peers.values()):
            try:
                install(environment, os.environ)
            except RunError as error:
                print(error, file=sys.stderr)
    recordings = str(options.esc10) if options.esc10.is_dir() else ""
    if not recordings:
        print(f"{options.esc10} is not there: no mAP, and int8 is calibrated on synthetic sounds.")
    plan = plan_turns(options.steps)
    turns = [*plan[:options.bursts], *plan[TURNS:]]
    for model in options.models:
        case = CASES[model]
        case = replace(case, recordings=recordings if case.checkpoint != "random" else "")
        runner = Runner(case, peers)
        print(case.name, flush=True)
        if "build" in options.stages:
            runner.build()
        if "scores" in options.stages:
            runner.score()
        save(runner)
        for threads in options.threads if "times" in options.stages else ():
            with progress(f"{threads} threads", len(turns) * len(peers)) as advance:
                runner.time(threads, turns, advance)
            save(runner)
    tables.write_pages()


def read_options() -> argparse.Namespace:
    """Return the options of the command line."""
    parser = command.Parser("peers", __doc__)
    parser.add_argument("--models", nargs="+", choices=CASES, default=list(CASES), metavar="MODEL",
                        help=f"of {', '.join(CASES)}")
    parser.add_argument("--peers", nargs="+", choices=PEERS, default=list(PEERS), metavar="PEER",
                        help=f"of {', '.join(PEERS)}; scores also need {REFERENCE}, which is added")
    parser.add_argument("--threads", nargs="+", type=command.whole_number(1, command.THREADS), default=[1, 2],
                        metavar="N", help="of each peer: all are timed with each number; default 1 and 2")
    parser.add_argument("--stages", nargs="+", choices=STAGES, default=STAGES, metavar="STAGE",
                        help=f"of {', '.join(STAGES)}; only times need an idle machine")
    parser.add_argument("--install", action="store_true", help="make the environments that are missing")
    parser.add_argument("--steps", type=command.whole_number(2, command.STEPS), default=STEPS, metavar="N",
                        help=f"at most, in a burst; default {STEPS}")
    parser.add_argument("--bursts", type=command.whole_number(1, TURNS), default=TURNS, metavar="N",
                        help=f"of each peer, 1 to {TURNS}; default {TURNS}")
    parser.add_argument("--esc10", type=command.folder, default=ROOT.parent / "shared" / "esc10",
                        metavar="FOLDER", help="ESC-10 or ESC-50, for the demo")
    return parser.parse_args()


def save(runner: Runner) -> None:
    """Write a case into the JSON file of this CPU. What was not run again stays as it is, also the results of
    a peer that could not run this time; its times have an older "run", so they are in no ratio with newer
    ones."""
    machine = origin()
    path = tables.RESULTS / "peers" / f"{tables.cpu_name(machine)}.json"
    results = tables.read_peers(path) | {"kind": "peers", **{key: machine[key] for key in (
        "cpu", "cpu_cores", "cpu_flags", "system")}}
    before = results["models"].get(runner.case.name, {})
    for name, row in runner.rows.items():
        old = before.get(name, {})
        if "why_not" in old:
            before[name] = row
        elif not old or "why_not" not in row:
            of_scores = {"versions": old["versions"]} if "scores" in old and "scores" not in row else {}
            before[name] = old | row | of_scores | {
                "times": _join_times(old.get("times", {}), row.get("times", {}))}
    models = {**results["models"], runner.case.name: before}
    order = [case.name for case in CASES.values() if case.name in models]
    write_json(path, results | {"models": {name: models[name] for name in order}})


def _join_times(old: dict[str, Any], new: dict[str, Any]) -> dict[str, Any]:
    """Return the times of a peer by threads: the new ones, and the old ones where there are none."""
    found = {threads: times for threads, times in new.items() if "why_not" not in times}
    return new | old | found


if __name__ == "__main__":
    command.run(main)
