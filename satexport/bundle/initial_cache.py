"""The cache after silence, from its file whenever a stream begins; imports numpy alone."""

from __future__ import annotations

import hashlib
import io
import threading
import weakref
from collections.abc import Iterator, Sequence
from math import prod
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from satexport.bundle.contract import TensorSpec
from satexport.errors import BundleError


class InitialCache:
    """Arrays [1, ...] that are read from their file, and checked, whenever a stream begins: kept in memory
    they would be a third copy of the state. The file stays open, so that a bundle that takes its place
    changes nothing for the streams that run. Going through them raises `BundleError` where its bytes were
    overwritten.

    `sha256` is the file's by bundle.json. Raises `BundleError` where it is another, or does not fit `specs`.
    """

    def __init__(self, path: Path, specs: Sequence[TensorSpec], sha256: str) -> None:
        self._path, self._sha256 = path, sha256
        self._shapes = [(1, *spec.shape[1:]) for spec in specs]
        self._lock = threading.Lock()
        try:
            self._file = path.open("rb", buffering=0)
            weakref.finalize(self, self._file.close)
            content = io.BytesIO(self._read())
            values = np.lib.format.read_array(content, allow_pickle=False)
        except BundleError:
            raise
        except Exception as error:  # numpy has no class of its own for this
            raise BundleError(f"{path} is damaged ({error}). Export it again.") from None
        size, self._dtype = sum(map(prod, self._shapes)), np.dtype(specs[0].dtype)
        if values.shape != (size,) or values.dtype != self._dtype:
            raise BundleError(f"{path} holds {values.dtype} {values.shape}, the contract says {self._dtype} "
                              f"({size},). Export it again.")
        self._first = content.tell() - values.nbytes

    def __iter__(self) -> Iterator[NDArray[Any]]:
        content, place = self._read(), self._first
        for shape in self._shapes:
            values = np.frombuffer(content, self._dtype, prod(shape), place)
            place += values.nbytes
            yield values.reshape(shape)

    def _read(self) -> bytes:
        """The file as it was when the bundle was checked."""
        with self._lock:  # its position is one for all threads
            self._file.seek(0)
            content = self._file.readall()
        if hashlib.sha256(content).hexdigest() != self._sha256:
            raise BundleError(f"{self._path} was overwritten after the bundle was checked: load it again. "
                              "Never copy over a bundle that is in use; copy beside it, then rename.")
        return content
