"""Generate mutated files, use them, and report faults.

    python -m tests.fuzz [--seed N] [--count N] [--seconds N] [--commands N] [--kind NAME] [--only N]

Every input is determined by the seed and its number, so `--seed S --only N` repeats one of them. Inputs that
cause a fault are kept in build/fuzz/ together with the reason.
"""

from __future__ import annotations

import argparse
import secrets
import shutil
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from random import Random

from tests import ROOT
from tests.fuzz.kinds import KINDS, Doubtful
from tests.fuzz.valid import prepare
from tests.fuzz.watch import SECONDS, Ending, Sandbox, Worker, run_command

KEPT = ROOT / "build" / "fuzz"


class Fuzz:
    """A campaign: how inputs are drawn and used, and their results."""

    def __init__(
        self, seed: int, folder: Path, bundle: Path, network: Path | None,
        kinds: Sequence[str] = tuple(KINDS), seconds: float = SECONDS
    ) -> None:
        self.seconds = seconds  # that an input may take
        self.seed, self.folder, self.network, self.kinds = seed, folder, network, kinds
        self.ends: Counter[tuple[str, str]] = Counter()  # (kind, column) -> inputs
        self.faults: list[tuple[str, int, str]] = []  # kind, number, what was wrong
        self._lock = threading.Lock()
        self.valid = folder / "valid"
        prepare(self.valid, bundle)

    def work(self, lane: int, numbers: Iterator[int], by_command: int) -> None:
        """Use inputs until there are no more; a share of them also with the real command."""
        sandbox = Sandbox(self.folder / f"lane-{lane}", self.network)
        worker = Worker(sandbox, self.valid, "tests.fuzz.kinds", self.seconds)
        try:
            while (number := self._next(numbers)) is not None:
                place = sandbox.folder / "input"
                place.mkdir()
                kind, doubtful = self.draw(number, place)
                self._count(kind, number, doubtful, worker.use(kind, doubtful), "")
                if by_command and number % by_command == 0:
                    ending = run_command(KINDS[kind], doubtful, self.valid, sandbox)
                    self._count(kind, number, doubtful, ending, "by command: ")
                shutil.rmtree(place)
        finally:
            worker.stop()

    def draw(self, number: int, place: Path) -> tuple[str, Doubtful]:
        """The input with this number."""
        random = Random(f"{self.seed}/{number}")
        kind = random.choices(self.kinds, [KINDS[kind].share for kind in self.kinds])[0]
        return kind, KINDS[kind].draw(random, self.valid, place)

    def _next(self, numbers: Iterator[int]) -> int | None:
        with self._lock:
            return next(numbers, None)

    def _count(self, kind: str, number: int, doubtful: Doubtful, ending: Ending, how: str) -> None:
        with self._lock:
            self.ends[kind, f"{how}{ending.end}"] += 1
            for text in ending.faults:
                self.faults.append((kind, number, f"{how}{text}"))
                print(f"\n{kind}, --seed {self.seed} --only {number}: {how}{text}", file=sys.stderr)
                keep = KEPT / f"{self.seed}-{number}"
                shutil.rmtree(keep, ignore_errors=True)
                shutil.copytree(doubtful.path.parent, keep, symlinks=True)
                (keep / "reason.txt").write_text(f"{kind}: {how}{text}\n", "utf-8", "backslashreplace")

    def table(self) -> str:
        """The results by kind, as a Markdown table."""
        columns = ("accepted", "refused", "fault", "by command: accepted", "by command: refused")
        lines = [
            f"| kind | inputs | {' | '.join(columns[:2])} | {' | '.join(columns[3:])} | faults |",
            "|---" * 7 + "|",
        ]
        for kind in (*self.kinds, "all"):
            counts = {
                column: sum(
                    count for (one, end), count in self.ends.items() if end == column and kind in (one, "all")
                )
                for column in columns
            }
            inputs = sum(counts[column] for column in columns[:3])
            faults = len({number for one, number, _ in self.faults if kind in (one, "all")})
            cells = (inputs, *(counts[column] for column in (*columns[:2], *columns[3:])), faults)
            lines.append(f"| {kind} | {' | '.join(map(str, cells))} |")
        return "\n".join(lines)


def numbers_until(count: int, seconds: float) -> Iterator[int]:
    """0, 1, ... below a count, until the time is over."""
    end = time.monotonic() + seconds
    for number in range(count):
        if time.monotonic() > end:
            print(f"Stopped after {seconds:g} s, at input {number} of {count}.", file=sys.stderr)
            return
        yield number


def fuzz(campaign: Fuzz, numbers: Iterator[int], by_command: int, lanes: int) -> None:
    """Use all inputs, several at a time."""
    threads = [
        threading.Thread(target=campaign.work, args=(lane, numbers, by_command)) for lane in range(lanes)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()


def main() -> None:
    """Run a campaign with the options of the command line; returns 1 if an input caused a fault."""
    parser = argparse.ArgumentParser(prog="python -m tests.fuzz", description=__doc__.partition("\n")[0])
    parser.add_argument("--seed", type=int, help="default: a new one, which is printed")
    parser.add_argument("--count", type=int, default=2_000, help="inputs; default 2000")
    parser.add_argument("--seconds", type=float, default=900, help="at most; default 900")
    parser.add_argument(
        "--commands", type=int, default=60, help="of them by the real command, too; default 60"
    )
    parser.add_argument("--kind", choices=KINDS, action="append", help="default: all")
    parser.add_argument("--only", type=int, metavar="NUMBER", help="one input again")
    parser.add_argument("--lanes", type=int, default=2, help="at a time; default 2")
    given = parser.parse_args()
    seed = secrets.randbelow(1 << 32) if given.seed is None else given.seed
    print(f"seed {seed}", flush=True)
    with tempfile.TemporaryDirectory() as folder:
        place = Path(folder)
        bundle, kinds = exported_demo(place), given.kind or list(KINDS)
        campaign = Fuzz(seed, place, bundle, compiled_network(place), kinds)
        if given.only is not None:
            fuzz(campaign, iter([given.only]), given.only or 1, 1)
        else:
            by_command = max(1, given.count // given.commands) if given.commands else 0
            fuzz(campaign, numbers_until(given.count, given.seconds), by_command, given.lanes)
    print(campaign.table())
    if campaign.faults:
        print(f"What ended badly is in {KEPT}.")
        sys.exit(1)


def exported_demo(folder: Path) -> Path:
    """The bundle of the demo checkpoint."""
    from satexport.models.checkpoint import load_checkpoint
    from satexport.models.families import find_variant
    from satexport.pipeline.export import export_onnx
    from satexport.targets import find_target

    return export_onnx(load_checkpoint("demo", find_variant("sat-t", 2)), find_target("onnx"), folder).path


def compiled_network(folder: Path) -> Path | None:
    """The library that records and blocks network access; None without a C compiler."""
    from tests.fake_network import compile_fake_network

    try:
        return compile_fake_network(folder)
    except LookupError as error:
        print(f"Look-ups of hosts are not recorded: {error}", file=sys.stderr)
        return None


if __name__ == "__main__":
    main()
