"""The process of a peer, in the peer's environment: builds it, scores audio, takes its turns."""

from __future__ import annotations

import logging
import os
import sys
import time
import warnings
from importlib import metadata
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.peers.peer import Case, Peer, Store
from benchmarks.peers.registry import PEERS
from satexport.errors import MissingError
from satexport.measure.latency import NOISE_CHUNKS, StepTimer, make_noise
from satexport.measure.worker import Worker, serve
from satexport.step import Step

FEATURE_RUNS = 10   # times that the features of each chunk are computed


class PeerWorker(Worker):
    """Its methods are the commands that the parent process sends."""

    def __init__(self) -> None:
        super().__init__()
        self.step: Step
        self.peer: Peer
        self.case: Case

    def open_peer(self, peer: str, case: dict[str, Any], store: str) -> dict[str, Any]:
        """Build a peer for a case unless the store has it. Returns its folder and the versions of its
        packages. Raises `MissingError` if this machine cannot run it."""
        self.peer, self.case = PEERS[peer], Case(**case)
        try:
            versions = {name: metadata.version(name) for name in self.peer.packages}
        except metadata.PackageNotFoundError as error:
            raise MissingError(f"{error.name} is not installed") from None
        return {"folder": str(self.peer.prepare(self.case, Store(Path(store)))), "versions": versions}

    def load_peer(self, folder: str, threads: int) -> dict[str, Any]:
        """Load it, in so many threads, and run a first step."""
        self.step = self.peer.load(self.case, Path(folder), threads)
        self.timer = StepTimer(self.step, make_noise(1, self.case.variant.window_samples))
        self.timer.run_step()
        return {}

    def score(self, audio: str, scores: str, from_zeros: bool) -> dict[str, Any]:
        """Score sounds [sounds, chunks, samples] in the file `audio`, each from the initial cache or from
        zeros, and write their scores [sounds, chunks, classes] to the file `scores`."""
        results = []
        begin: Any = getattr(self.step, "zero_cache", None) if from_zeros else None
        for chunks in np.load(audio):
            cache, rows = begin() if begin else self.step.initial_cache(1), []
            for chunk in chunks:
                outputs, cache = self.step(chunk[None], cache)
                rows.append(outputs.scores[0])
            results.append(rows)
        np.save(scores, np.asarray(results, np.float32))
        return {}

    def time_features(self) -> dict[str, float | None]:
        """Return the median time of the features alone in ms; None if the step does not compute them apart
        from the rest."""
        features = getattr(self.step, "features", None)
        if features is None:
            return {"ms": None}
        times, noise = [], make_noise(1, self.case.variant.window_samples)
        for number in range(FEATURE_RUNS * NOISE_CHUNKS):
            start = time.perf_counter()
            features(noise[number % NOISE_CHUNKS])
            times.append(time.perf_counter() - start)
        return {"ms": 1000 * float(np.median(times))}


def silence_libraries() -> None:
    """Keep warnings and progress bars of exporters and quantisers from the terminal. Errors still arrive, as
    exceptions."""
    warnings.simplefilter("ignore")
    logging.disable(logging.WARNING)
    sys.stdout = open(os.devnull, "w", encoding="utf-8")  # noqa: SIM115


if __name__ == "__main__":
    silence_libraries()
    serve(PeerWorker())
