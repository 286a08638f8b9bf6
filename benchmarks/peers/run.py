"""Build peers, compare their scores with PyTorch's, and time them in turns, each in a process of its own."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import asdict, dataclass, field
from datetime import datetime, timezone
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.peers.environments import FOLDER, find_python
from benchmarks.peers.peer import Case, Peer
from satexport.audio.datasets import load_set
from satexport.audio.labels import audioset_labels
from satexport.audio.synthetic import synthetic_stream
from satexport.errors import SatexportError
from satexport.measure.latency import TurnTimes, take_turns
from satexport.measure.process import Process
from satexport.measure.schedule import Turn
from satexport.parity.differences import compare
from satexport.parity.metrics import average_precisions
from satexport.quantize.calibration_set import default_folds
from satexport.step import FloatArray

STREAM_SECONDS = 60   # of synthetic sounds over which scores are compared
REFERENCE = "eager"   # name of the peer whose scores are right
Row = dict[str, Any]  # the results of a peer for a case: "why_not", or "versions", "scores", "times"
NO_TIMES = TurnTimes((float("nan"),), float("nan"))  # of a peer that failed in an earlier turn


@dataclass
class Runner:
    """Runs a case with each peer. Problems of a peer go into its row as "why_not"; the others still run."""

    case: Case
    peers: Mapping[str, Peer]
    store: Path = FOLDER / "built"
    rows: dict[str, Row] = field(default_factory=dict)

    def build(self) -> None:
        """Build each peer, one after the other."""
        for name in self.peers:
            with self._trying(name), Process(name, *self._command(name)) as process:
                self._open(process, name)

    def score(self) -> None:
        """Compare the scores of each peer with PyTorch's over a stream, and if the weights are trained, find
        its mAP over the gate's folds of the recordings."""
        stream, labelled = make_stream(self.case), load_labelled(self.case)
        sounds = [(stream, False), *([(labelled[0], False)] if labelled else [])]
        with tempfile.TemporaryDirectory() as folder:
            reference = self._score(REFERENCE, sounds, Path(folder))
            if reference is None:
                return
            for name in self.peers:
                if "why_not" in self.rows.get(name, {}):
                    continue
                naive = self.peers[name].starts_from_zeros and labelled
                asked = [*sounds, (labelled[0], True)] if naive and labelled else sounds
                found = reference if name == REFERENCE else self._score(name, asked, Path(folder))
                if found is not None:
                    self.rows[name]["scores"] = judge_scores(
                        reference, found, labelled[1] if labelled else None)

    def time(self, threads: int, turns: Sequence[Turn], advance: Callable[[], None] = lambda: None) -> None:
        """Time the steps of all peers in turns. Their times share a "run", the time at which it began in UTC:
        only times of the same run are compared."""
        run = datetime.now(timezone.utc).isoformat(timespec="milliseconds")
        with ExitStack() as stack:
            running: dict[str, Process] = {}
            for name in self.peers:
                if "why_not" in self.rows.get(name, {}):
                    continue
                with self._trying(name, threads):
                    process = stack.enter_context(Process(name, *self._command(name)))
                    process.ask("load_peer", folder=self._open(process, name), threads=threads)
                    running[name] = process
            latencies = take_turns([partial(self._run_turn, name, process, threads)
                                    for name, process in running.items()], turns, advance)
            for (name, process), latency in zip(running.items(), latencies, strict=True):
                with self._trying(name, threads):
                    if not self._has_failed(name, threads):
                        self.rows[name].setdefault("times", {})[str(threads)] = {
                            **asdict(latency), "features_ms": process.ask("time_features")["ms"],
                            "run": run, "versions": self.rows[name]["versions"]}

    def _run_turn(self, name: str, process: Process, threads: int, turn: Turn) -> TurnTimes:
        """Return the times of a peer's turn: NO_TIMES if it fails, or has failed in an earlier one."""
        times = NO_TIMES
        with self._trying(name, threads):
            if not self._has_failed(name, threads):
                times = TurnTimes(**process.ask("run", **asdict(turn)))
        return times

    def _has_failed(self, name: str, threads: int) -> bool:
        return "why_not" in self.rows[name].get("times", {}).get(str(threads), {})

    def _score(self, name: str, sounds: Sequence[tuple[FloatArray, bool]],
               folder: Path) -> list[FloatArray] | None:
        """Return a peer's scores of each array of sounds, from zeros if that says so; None if it failed."""
        results = []
        with self._trying(name), Process(name, *self._command(name)) as process:
            process.ask("load_peer", folder=self._open(process, name), threads=1)
            for array, from_zeros in sounds:
                np.save(folder / "audio.npy", array)
                process.ask("score", audio=str(folder / "audio.npy"), scores=str(folder / "scores.npy"),
                            from_zeros=from_zeros)
                results.append(np.load(folder / "scores.npy"))
            return results
        return None

    def _open(self, process: Process, name: str) -> str:
        """Build a peer unless it is built, and return its folder."""
        opened = process.ask("open_peer", peer=name, case=asdict(self.case), store=str(self.store))
        self.rows.setdefault(name, {}).update(versions=opened["versions"])
        return str(opened["folder"])

    def _command(self, name: str) -> tuple[str, str]:
        peer = self.peers.get(name)
        return "benchmarks.peers.worker", find_python(peer.environment if peer else "")

    @contextmanager
    def _trying(self, name: str, threads: int | None = None) -> Iterator[None]:
        """Put the reason why a peer does not run into its row, or of its times in so many threads only."""
        try:
            yield
        except SatexportError as error:
            reason = f"{error}".splitlines()[0]
            print(f"{self.case.name}: {name} not run: {reason}", flush=True)
            row = self.rows.setdefault(name, {})
            if threads is None:
                row["why_not"] = reason
            else:
                row.setdefault("times", {})[str(threads)] = {"why_not": reason}


def make_stream(case: Case) -> FloatArray:
    """Return a stream of synthetic sounds, [1, chunks, samples]."""
    size, rate = case.variant.hop_samples, case.variant.sample_rate
    chunks = STREAM_SECONDS * rate // size
    return synthetic_stream(chunks * size / rate, "evaluate", rate=rate).reshape(1, chunks, size)


def load_labelled(case: Case) -> tuple[FloatArray, np.ndarray[Any, Any]] | None:
    """Return the clips of the gate's folds, [clips, chunks, samples], the last chunk padded with zeros, and
    their labels [clips, classes]; None if nothing can be said about mAP."""
    if case.checkpoint == "random" or not case.recordings:
        return None
    labels = audioset_labels()
    found = load_set(case.recordings, labels, folds=default_folds(case.recordings))
    size, rate = case.variant.hop_samples, case.variant.sample_rate
    sounds = [clip.read(rate) for clip in found.clips]
    chunks = max(-(-len(sound) // size) for sound in sounds)
    audio = np.zeros((len(sounds), chunks * size), np.float32)
    for row, sound in zip(audio, sounds, strict=True):
        row[:len(sound)] = sound
    return audio.reshape(len(sounds), chunks, size), found.truth(labels)


def judge_scores(reference: Sequence[FloatArray], found: Sequence[FloatArray],
                 truth: np.ndarray[Any, Any] | None) -> dict[str, float | None]:
    """Return a peer's score differences over the stream, and its mAP on the clips that have a `truth`, also
    from zeros if these scores are there. Scores that are not finite have no mAP."""
    differences = compare(reference[0][0], found[0][0])
    figures: dict[str, float | None] = {
        "largest": differences.largest, "mean": differences.mean, "map": None, "map_kept": None,
        "map_kept_from_zeros": None}
    if truth is not None:
        right, *maps = [_mean_average_precision(truth, scores) for scores in (reference[1], *found[1:])]
        figures |= {"map": maps[0], "map_kept": maps[0] / right,
                    "map_kept_from_zeros": maps[1] / right if len(maps) > 1 else None}
    return figures


def _mean_average_precision(truth: np.ndarray[Any, Any], scores: FloatArray) -> float:
    if not np.isfinite(scores).all():
        return float("nan")
    return float(np.mean(list(average_precisions(truth, scores.mean(1), audioset_labels()).values())))
