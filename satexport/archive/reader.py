"""Read the chunks of a piece in a thread, while earlier ones are scored."""

from __future__ import annotations

import os
import queue
import threading
from collections.abc import Callable, Iterable, Iterator
from typing import NamedTuple

import numpy as np

from satexport.archive.plan import Piece
from satexport.audio.files import audio_blocks
from satexport.bundle.contract import Contract
from satexport.errors import AudioError
from satexport.step import FloatArray

AHEAD_SECONDS = 20    # of audio that is read ahead


class ReadChunk(NamedTuple):
    """A chunk of a recording."""

    samples: FloatArray   # [hop_samples], padded with zeros
    length: int           # samples of the recording


class ReadAhead:
    """The chunks of a piece, and before them as many as the model remembers, read in a thread of their own.

    Iterating raises the errors of `audio_blocks` after the chunks before them."""

    def __init__(self, piece: Piece, contract: Contract, tell: Callable[[str], None]) -> None:
        self.first = max(0, piece.begin - contract.memory_steps)
        hop = contract.hop_samples
        blocks = audio_blocks(piece.recording.path, contract.sample_rate, tell=tell, begin=self.first * hop,
                              end=None if piece.end is None else piece.end * hop)
        ahead = max(2, round(AHEAD_SECONDS / contract.hop_seconds))
        self._path = piece.recording.path
        self._queue: queue.Queue[ReadChunk | BaseException | None] = queue.Queue(ahead)
        self._is_closed = threading.Event()
        self._thread = threading.Thread(target=self._read, args=(split(blocks, hop),), daemon=True)
        self._thread.start()

    def _read(self, chunks: Iterator[ReadChunk]) -> None:
        try:
            if os.path.exists(self._path) and not os.path.isfile(self._path):  # a pipe would never end
                raise AudioError(f"{self._path}: is not a regular file; expected a recording.")
            for chunk in chunks:
                if not self._put(chunk):
                    return
            self._put(None)
        except BaseException as error:  # it is raised where the chunks are used
            self._put(error)

    def _put(self, item: ReadChunk | BaseException | None) -> bool:
        """Wait for a place in the queue. Returns False if nobody reads it any more."""
        while not self._is_closed.is_set():
            try:
                self._queue.put(item, timeout=0.1)
                return True
            except queue.Full:
                continue
        return False

    def __iter__(self) -> Iterator[ReadChunk]:
        while (item := self._queue.get()) is not None:
            if isinstance(item, BaseException):
                raise item
            yield item

    def close(self) -> None:
        """Stop reading."""
        self._is_closed.set()
        self._thread.join()


def split(blocks: Iterable[FloatArray], hop: int) -> Iterator[ReadChunk]:
    """Split blocks of samples into chunks of `hop` samples; the last one is padded."""
    parts: list[FloatArray] = []
    waiting = 0
    for block in blocks:
        parts.append(block)
        waiting += len(block)
        if waiting < hop:
            continue
        audio = np.concatenate(parts)
        whole = waiting // hop * hop
        for chunk in audio[:whole].reshape(-1, hop):
            yield ReadChunk(chunk, hop)
        parts, waiting = [audio[whole:]], waiting - whole
    if waiting:
        audio = np.concatenate(parts)
        yield ReadChunk(np.pad(audio, (0, hop - waiting)), waiting)
