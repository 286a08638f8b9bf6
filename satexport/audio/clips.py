"""Clips: sounds of a set, read when they are needed, and the hash by which one is known again."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from satexport.errors import DataError

LONGEST_CLIP = 15 * 60  # s, of one that is scored as a whole: half a gigabyte in PyTorch
Blocks = Callable[[int], Iterable[NDArray[np.float32]]]  # rate in Hz -> a sound in parts: [samples], mono


@dataclass(frozen=True)
class Clip:
    """One sound; `blocks(rate)` gives it part by part at a sample rate, however long it is."""

    name: str
    labels: tuple[str, ...]
    blocks: Blocks

    def read(self, rate: int) -> NDArray[np.float32]:
        """The whole of it at a sample rate in Hz, [samples] float32, mono. Raises `AudioError` where it
        cannot be read, `DataError` where it is longer than a clip that is scored as one may be."""
        parts: list[NDArray[np.float32]] = []
        for block in self.blocks(rate):
            parts.append(block)
            if sum(map(len, parts)) > LONGEST_CLIP * rate:
                raise DataError(f"{self.name}: is longer than {LONGEST_CLIP // 60} minutes; expected clips "
                                "of seconds, each scored as one. Cut it, with labels for each part.")
        return np.concatenate(parts)


class ClipHash:
    """The SHA-256 of a clip's samples, block by block: the same sound under another name is the same clip."""

    def __init__(self) -> None:
        self._digest = hashlib.sha256()

    def update(self, block: NDArray[np.float32]) -> None:
        self._digest.update(np.ascontiguousarray(block, np.float32).tobytes())

    def hexdigest(self) -> str:
        return self._digest.hexdigest()


def clip_hash(audio: NDArray[np.float32]) -> str:
    """The `ClipHash` of a clip that is in memory as a whole, 64 hex digits."""
    found = ClipHash()
    found.update(audio)
    return found.hexdigest()
