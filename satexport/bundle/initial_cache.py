"""The cache after silence, read from its file each time a stream starts; imports only numpy."""

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
    """An iterable of arrays [1, ...]. Each iteration, once per new stream, reads and checks the file again:
    in memory the arrays would be a third copy of the state. The file stays open, so that replacing the bundle
    does not affect running streams. Iterating raises `BundleError` if the file was overwritten.

    `sha256` is the hash of the file in bundle.json. Raises `BundleError` if the file has another hash or does
    not match `specs`.
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
        except Exception as error:  # numpy has no error class for damaged files
            raise BundleError(f"{path} is damaged ({error}). Export it again.") from None
        size, self._dtype = sum(map(prod, self._shapes)), np.dtype(specs[0].dtype)
        if values.shape != (size,) or values.dtype != self._dtype:
            raise BundleError(f"{path} contains {values.dtype} {values.shape}, the contract requires "
                              f"{self._dtype} ({size},). Export it again.")
        self._start = content.tell() - values.nbytes

    def __iter__(self) -> Iterator[NDArray[Any]]:
        content, offset = self._read(), self._start
        for shape in self._shapes:
            values = np.frombuffer(content, self._dtype, prod(shape), offset)
            offset += values.nbytes
            yield values.reshape(shape)

    def _read(self) -> bytes:
        """The content of the file, which must still have its SHA-256."""
        with self._lock:  # all threads share the file position
            self._file.seek(0)
            content = self._file.readall()
        if hashlib.sha256(content).hexdigest() != self._sha256:
            raise BundleError(f"{self._path} was overwritten after the bundle was loaded. Load it again. To "
                              "replace a bundle that is in use, copy the new one next to it, then rename.")
        return content
