"""The chunks of a sound as they are scored, with their times and levels. Imports only numpy."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import NamedTuple

import numpy as np

from satexport.errors import AudioError, RunError
from satexport.step import FloatArray, Outputs
from satexport.tagging.tagger import Tagger


class Chunk(NamedTuple):
    """A scored chunk. Times are seconds of the sound."""

    start: float
    end: float              # of the sound, if it ends within the chunk
    window_start: float     # where the audio of its step began
    power: float            # mean square of its samples between start and end
    outputs: Outputs        # scores [classes], embedding [size]


def score_blocks(tagger: Tagger, blocks: Iterable[FloatArray], name: str) -> Iterator[Chunk]:
    """Yield the chunks of a sound, which comes in blocks [samples] at the model's sample rate, as soon as
    they are complete; the last one is padded with zeros. Raises `AudioError`, with the sound's name, if a
    block cannot be scored. If a device that delivers the blocks raises `RunError`, what came before is scored
    first."""
    contract, stream, number = tagger.contract, tagger.stream(), 0
    hop, powers = contract.hop_seconds, _Powers(contract.hop_samples)
    failure: RunError | None = None

    def chunk(end: float, power: float, outputs: Outputs) -> Chunk:
        window_start = max(0.0, (number + 1) * hop - contract.window_seconds)
        return Chunk(number * hop, end, window_start, power, outputs)

    source = iter(blocks)
    while True:
        try:
            block = next(source, None)
        except RunError as error:
            block, failure = None, error
        if block is None:
            break
        try:
            completed = stream.feed_all(block).split()
        except AudioError as error:
            raise AudioError(f"{name}: {error}") from None
        for outputs, power in zip(completed, powers.add(block), strict=True):
            yield chunk((number + 1) * hop, power, outputs)
            number += 1
    rest = stream.waiting / contract.sample_rate
    for outputs in stream.flush_all().split():
        yield chunk(number * hop + rest, powers.rest(), outputs)
    if failure:
        raise failure


class _Powers:
    """The mean square of each chunk of a stream."""

    def __init__(self, hop_samples: int) -> None:
        self._hop = hop_samples
        self._sum, self._count = 0.0, 0  # of the chunk that is not complete

    def add(self, samples: FloatArray) -> list[float]:
        """Add samples [n]. Returns the mean square of each chunk that they complete."""
        squares, completed = np.square(samples, dtype=np.float64), []
        while self._count + len(squares) >= self._hop:
            missing = self._hop - self._count
            completed.append((self._sum + float(squares[:missing].sum())) / self._hop)
            squares = squares[missing:]
            self._sum, self._count = 0.0, 0
        self._sum += float(squares.sum())
        self._count += len(squares)
        return completed

    def rest(self) -> float:
        """The mean square of the samples after the last complete chunk, of which there is at least one."""
        return self._sum / self._count
