"""Clips: the recordings of a data set, read on demand, and the hash that identifies one."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from satexport.errors import DataError

MAX_CLIP_SECONDS = 15 * 60  # a clip is scored as a whole; this much takes half a gigabyte in PyTorch
Blocks = Callable[[int], Iterable[NDArray[np.float32]]]  # sample rate in Hz -> blocks of [samples], mono


@dataclass(frozen=True)
class SoundEvent:
    """A sound in a recording: a strong label."""

    onset: float   # s
    offset: float  # s
    label: str
    line: int | None = field(default=None, compare=False)  # of the list that has it


@dataclass(frozen=True)
class Clip:
    """One recording; `blocks(rate)` yields it block by block at a sample rate, however long it is."""

    name: str
    labels: tuple[str, ...]
    blocks: Blocks
    events: tuple[SoundEvent, ...] | None = None   # None: it is not known when its sounds begin and end
    file: Path | None = None                       # None: its sound is computed

    def read(self, rate: int) -> NDArray[np.float32]:
        """Read the whole clip at a sample rate in Hz: [samples] float32, mono. Raises `AudioError` if it
        cannot be read and `DataError` if it is longer than `MAX_CLIP_SECONDS`."""
        parts: list[NDArray[np.float32]] = []
        for block in self.blocks(rate):
            parts.append(block)
            if sum(map(len, parts)) > MAX_CLIP_SECONDS * rate:
                raise DataError(f"{self.name}: is longer than {MAX_CLIP_SECONDS // 60} minutes; expected "
                                "short clips, because each is scored as a whole. Cut it into parts and label "
                                "each.")
        return np.concatenate(parts)


class ClipHash:
    """SHA-256 of a clip's samples, updated block by block. It does not depend on the file's name."""

    def __init__(self) -> None:
        self._digest = hashlib.sha256()

    def update(self, block: NDArray[np.float32]) -> None:
        self._digest.update(np.ascontiguousarray(block, np.float32).tobytes())

    def hexdigest(self) -> str:
        return self._digest.hexdigest()


def clip_hash(audio: NDArray[np.float32]) -> str:
    """The `ClipHash` of a clip that is in memory as a whole: 64 hex digits."""
    digest = ClipHash()
    digest.update(audio)
    return digest.hexdigest()


def clip_seconds(audio: NDArray[np.float32], rate: int) -> float:
    """The length of a clip [samples] in seconds, to 1 ms: resampling may have added a sample."""
    return round(len(audio) / rate, 3)
