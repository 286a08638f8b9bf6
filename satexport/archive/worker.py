"""What a worker does: it loads a bundle once, and finds what a job asks for in the pieces of a part. Imports
only numpy and the bundle's runtime.

The streams of a batch run in step, each through one piece after the other. While they run, the next samples
are decoded and resampled in other threads.
"""

from __future__ import annotations

import hashlib
import os
import threading
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import ExitStack, closing
from functools import lru_cache, partial
from operator import itemgetter
from pathlib import Path

import numpy as np

from satexport.archive.contents import CONTENTS, ChunkRows, Chunks, Collector
from satexport.archive.job import Columns, Job, PieceResult, Task
from satexport.archive.plan import Piece
from satexport.archive.reader import ReadAhead
from satexport.audio.files import decoder_versions
from satexport.errors import AudioError, BundleError, MissingError, RunError, UsageError
from satexport.parity.golden import golden_outputs
from satexport.step import FloatArray, Outputs
from satexport.tagging.stream import StreamBatch
from satexport.tagging.tagger import Tagger, load

THREADS = 1          # of the runtime: part of what makes the scores the same everywhere
BLOCK = 256          # chunks that are collected at a time

_lock = threading.Lock()  # threads of a worker share a loaded bundle


def check_worker(job: Job) -> str:
    """Load the bundle, and return the SHA-256 of what decides the results of this worker: the scores of the
    golden chunks, and the versions of what decodes and resamples. Raises `MissingError` if the bundle or
    the recordings are not there, or the runtime is not installed, `BundleError` if it is another bundle,
    `UsageError` if its scores depend on the place of a stream in the batch."""
    if job.sample and not os.path.exists(job.sample):
        raise MissingError(f"{job.sample}: this worker sees no such file; expected the recordings at the "
                           "same paths as on the machine of the command. Share their folder with it.")
    return _load(job)[1]


def tag_part(task: Task) -> tuple[PieceResult, ...]:
    """Find what the job asks for in the pieces of a part, in their order. Raises the errors of
    `check_worker`, and `RunError` if this worker computes other scores than those that began the run."""
    tagger, worker_sha256 = _load(task.job)
    if task.job.worker_sha256 not in ("", worker_sha256):
        raise RunError("a worker computes other scores of the golden chunks than those that began this run, "
                       "or decodes with other versions: its CPU or its packages differ. Use workers of one "
                       "kind, or begin another run with --mixed-cpus.")
    return tuple(run_pieces(tagger, task.job, task.part.pieces))


def _load(job: Job) -> tuple[Tagger, str]:
    with _lock:
        return _load_once(job.bundle, job.bundle_sha256, job.batch)


@lru_cache(maxsize=1)
def _load_once(path: str, sha256: str, batch: int) -> tuple[Tagger, str]:
    if not Path(path).is_dir():
        raise MissingError(f"{path}: this worker sees no such folder; expected the bundle at the same path "
                           "as on the machine of the command. Share the folder, or copy it there.")
    tagger = load(path, THREADS)
    if tagger.bundle.sha256 != sha256:
        raise BundleError(f"{path}: is another bundle on this worker than on the machine of the command. "
                          "Copy it again.")
    audio, _ = tagger.bundle.golden()
    outputs = golden_outputs(StreamBatch(tagger.step, tagger.contract, batch), audio)
    if any(not np.array_equal(slot, array[0]) for array in outputs.arrays().values() for slot in array):
        raise UsageError(f"--batch {batch}: with this runtime, scores depend on the place of a stream in the "
                         "batch, and the result on the order of work. Choose a smaller batch, such as 1.")
    return tagger, hashlib.sha256(outputs.scores[0].tobytes() + decoder_versions().encode()).hexdigest()


def run_pieces(tagger: Tagger, job: Job, pieces: Sequence[Piece]) -> list[PieceResult]:
    """Run the streams of a batch through pieces. Returns what was found in each."""
    streams = StreamBatch(tagger.step, tagger.contract, job.batch)
    with ExitStack() as opened:
        passes = _begin_ahead([partial(_Pass, tagger, job, piece) for piece in pieces], opened)
        begun: list[_Pass] = []
        lanes: list[_Pass | None] = [None] * job.batch
        while True:
            audio = np.zeros((job.batch, tagger.contract.hop_samples), np.float32)
            for slot in range(job.batch):
                while (lane := lanes[slot]) is None or not lane.read(audio[slot]):
                    lanes[slot] = following = next(passes, None)
                    if following is None:
                        break
                    begun.append(following)
                    streams.reset(slot if job.batch > 1 else None)
            if not any(lanes):
                return [each.result() for each in begun]
            outputs = streams.feed_all(audio).map(itemgetter(0))
            for slot, lane in enumerate(lanes):
                if lane:
                    lane.add(outputs.map(itemgetter(slot)))


def _begin_ahead(begin: Iterable[Callable[[], _Pass]], opened: ExitStack) -> Iterator[_Pass]:
    """Yield passes, of which the next one has already begun to read."""
    following: _Pass | None = None
    for call in begin:
        current, following = following, opened.enter_context(closing(call()))
        if current:
            yield current
    if following:
        yield following


class _Pass:
    """A piece on its way through a stream."""

    def __init__(self, tagger: Tagger, job: Job, piece: Piece) -> None:
        """Begins to read the piece."""
        content = CONTENTS[job.content]
        self._piece, self._contract = piece, tagger.contract
        self._collector: Collector = (
            content.collector(job, tagger.contract, tagger.labels)
            if piece.is_whole or not content.needs_whole else ChunkRows())
        self._warnings: list[str] = []
        self._problem, self._is_missing = "", False
        self._reader = ReadAhead(piece, tagger.contract, self._warnings.append)
        self._chunks = iter(self._reader)
        self._number = self._reader.first                  # of the chunk that is scored next
        self._samples = 0                                  # that were scored
        self._end = 0.0                                    # of the last chunk, s
        self._waiting: list[tuple[float, float, float, Outputs]] = []  # for the collector
        self._columns: list[Columns] = []

    def read(self, slot: FloatArray) -> bool:
        """Read the next chunk into its place in the batch, [hop_samples]. Returns False at the end of the
        piece, also if it cannot be read further."""
        try:
            chunk = next(self._chunks, None)
        except AudioError as error:
            chunk, self._problem = None, str(error)
            self._is_missing = not os.path.exists(self._piece.recording.path)
        if chunk is None:
            return False
        slot[:], self._length = chunk.samples, chunk.length
        self._power = float(np.square(chunk.samples[:chunk.length], dtype=np.float64).mean())
        return True

    def add(self, outputs: Outputs) -> None:
        """Add the outputs of the chunk that was read last, [classes] and [size]."""
        if self._number >= self._piece.begin:
            rate, start = self._contract.sample_rate, self._number * self._contract.hop_samples
            self._end = (start + self._length) / rate
            self._waiting.append((start / rate, self._end, self._power, outputs))
            self._samples += self._length
            if len(self._waiting) == BLOCK:
                self._collect()
        self._number += 1

    def _collect(self) -> None:
        starts, ends, powers, outputs = zip(*self._waiting, strict=True)
        joined = Outputs.join(np.stack, outputs)
        self._keep(self._collector.add(Chunks(
            np.array(starts), np.array(ends), np.array(powers), joined.scores, joined.embedding)))
        self._waiting.clear()

    def _keep(self, columns: Columns | None) -> None:
        if columns:
            self._columns.append(columns)

    def result(self) -> PieceResult:
        """What was found in the piece, which has been read to its end."""
        if self._waiting:
            self._collect()
        self._keep(self._collector.finish(self._end))
        return PieceResult(
            piece=self._piece, columns=tuple(self._columns), end=self._end,
            seconds=self._samples / self._contract.sample_rate, problem=self._problem,
            is_missing=self._is_missing, warnings=tuple(self._warnings))

    def close(self) -> None:
        self._reader.close()
