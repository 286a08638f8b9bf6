"""A loaded bundle."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np

from satexport.backends.backend import LoadOptions, load_step
from satexport.bundle.contract import ANY, Contract, state_bytes
from satexport.bundle.folder import Bundle, open_bundle
from satexport.errors import BundleError, UsageError
from satexport.frontends.prepare import check_front_end, front_end_bytes
from satexport.memory import available_bytes
from satexport.process import ProcessBound
from satexport.step import FloatArray, Step
from satexport.tagging.stream import Stream, StreamBatch

TRIES = 5  # to load a bundle while it is being replaced


class Tagger(ProcessBound):
    """A loaded bundle: its labels, its contract, and any number of streams. It works only in the process that
    loaded it: load it after a fork, and in each worker of a pool."""

    def __init__(self, bundle: Bundle, step: Step) -> None:
        super().__init__()
        self.bundle = bundle
        self.contract = bundle.contract
        self.labels = bundle.labels
        self.step = step

    def stream(self) -> Stream:
        """Return a new stream that starts from silence."""
        self.check_process()
        return Stream(self.step, self.contract)

    def streams(self, count: int | None = None) -> StreamBatch:
        """Return new streams that start from silence and run in step: as many as the bundle has, or `count`
        if its graph leaves the number open. Raises `UsageError` for another number, or for more streams than
        fit into memory."""
        self.check_process()
        fixed = self.contract.options.streams
        if fixed == ANY and (count is None or count < 1):
            raise UsageError(f"{self.bundle.path} runs any number of streams; pass a number, at least 1.")
        if fixed != ANY and count not in (None, fixed):
            raise UsageError(f"{self.bundle.path} runs {fixed} streams in one step, not {count}. Export "
                             f"with --streams {count}, or with --streams dynamic for any number.")
        count = count or fixed
        check_streams(self.contract, count)
        return StreamBatch(self.step, self.contract, count)

    def close(self) -> None:
        """Free the runtime's resources immediately. Neither the tagger nor its streams can be used
        afterwards."""
        self.step.close()

    def __enter__(self) -> Tagger:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def top(self, scores: FloatArray, count: int = 3) -> list[tuple[str, float]]:
        """The labels with the highest scores of one chunk [classes], best first."""
        order = np.argsort(-scores, kind="stable")[:count]
        return [(self.labels[i], float(scores[i])) for i in order]


def load(path: str | Path, threads: int | None = None, *, spinning: bool = False) -> Tagger:
    """Load a bundle and check every part against its SHA-256.

    By default a live stream takes as little CPU time as possible: the number of threads is that of the
    target or, if it sets none, as many as live streams need, one for most models; and they sleep between
    steps. More `threads`, and `spinning`, that is, threads that use their cores while they wait, make steps
    shorter and take several times the CPU time; only ONNX Runtime with several threads spins, others ignore
    it. Raises `BundleError` for a folder that is not a bundle or was modified, `MissingError` if the runtime
    is not installed. If the bundle is replaced while loading, the new one is loaded."""
    options = LoadOptions(threads=threads, spinning=spinning)
    for tries_left in range(TRIES)[::-1]:
        before = _identity(path)
        try:
            bundle = open_bundle(path)
            check_front_end(bundle.contract)
            tagger = Tagger(bundle, load_step(bundle, options))
        except BundleError:
            if not tries_left or _identity(path) == before:
                raise
        else:
            if not tries_left or _identity(path) == before:
                break
    return tagger


def _identity(path: str | Path) -> tuple[int, int] | None:
    """The device and inode of the folder at a path; None if it does not exist."""
    try:
        status = os.stat(path)
    except OSError:
        return None
    return status.st_dev, status.st_ino


def check_streams(contract: Contract, count: int) -> None:
    """Raise `UsageError` if the available memory is too small for this many streams: two copies of each
    cache and of the earlier audio, and the largest tensors of one step."""
    available = available_bytes()
    per_stream = 2 * state_bytes(contract) + front_end_bytes(contract)
    if available is not None and count * per_stream > available:
        advice = (f"Use at most {available // per_stream}." if available >= per_stream
                  else "That is too little for one.")
        raise UsageError(f"{count} streams of {contract.variant} need about "
                         f"{count * per_stream / 1e9:.1f} GB, {available / 1e9:.1f} GB are available. "
                         f"{advice}")
