"""Read raw PCM from a pipe as mono float32 in [-1, 1)."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator
from typing import BinaryIO

import numpy as np
from numpy.typing import NDArray

from satexport.audio.containers import FIRST_BYTES, MPEG_BYTES, container_of, may_be_mpeg
from satexport.errors import AudioError
from satexport.step import PCM_SCALE

PCM_BYTES = 2           # per sample; s16le: signed 16 bit, little endian


def pcm_blocks(stream: BinaryIO, rate: int, seconds: float = 0.5) -> Iterator[NDArray[np.float32]]:
    """Yield mono s16le PCM of `rate` Hz as [samples] float32 in [-1, 1), as soon as bytes arrive.

    A block is at most `seconds` long, and shorter if a live pipe has delivered less. Raises `AudioError` if
    the stream starts with an audio container instead of PCM, and at its end if it was empty or ends in the
    middle of a sample.
    """
    expected = f"expected {rate} Hz mono 16-bit little-endian PCM (ffmpeg: -f s16le -ar {rate} -ac 1)."
    read = getattr(stream, "read1", stream.read)  # read1 returns the bytes that have arrived, without waiting
    size = max(1, round(seconds * rate)) * PCM_BYTES
    first = _read_first(read, size)
    if container := container_of(first):
        raise AudioError(f"standard input: starts like a file of type {container}; {expected} "
                         "To read a whole file from standard input, pass /dev/stdin instead of -.")
    first_pieces = (first[begin:begin + size] for begin in range(0, len(first), size))
    total, rest = 0, b""
    for piece in itertools.chain(first_pieces, iter(lambda: read(size), b"")):
        total += len(piece)
        data = rest + piece
        whole = len(data) // PCM_BYTES * PCM_BYTES
        rest = data[whole:]
        if whole:
            samples = np.frombuffer(data[:whole], dtype="<i2")
            yield samples.astype(np.float32) / np.float32(PCM_SCALE)
    if not total:
        raise AudioError(f"standard input: is empty or closed; {expected}")
    if rest:
        raise AudioError(f"standard input: {total} bytes are not a whole number of samples; {expected}")


def _read_first(read: Callable[[int], bytes], size: int) -> bytes:
    """Read enough bytes to detect a container; do not wait for more than that on a slow stream."""
    first = b""
    while (missing := (MPEG_BYTES if may_be_mpeg(first) else FIRST_BYTES) - len(first)) > 0:
        if not (data := read(max(missing, size - len(first)))):
            break
        first += data
    return first
