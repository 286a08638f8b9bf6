"""Embeddings of audio files, collected chunk by chunk and written to one file. Imports only numpy."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from satexport.bundle.contract import Contract
from satexport.errors import UsageError
from satexport.files import write_bytes
from satexport.step import FloatArray


class EmbeddingFile:
    """Collects the embeddings of one or more sounds and writes them as an .npz file, with a row for each
    chunk:

    embedding [chunks, size] float32; file_number [chunks] int64, the sound's place in `files`; start, end
    [chunks] float64, in seconds, between which audio was new; window_start [chunks] float64, where the audio
    of the step began; files, the names of the sounds; kind, model, bundle_sha256: where it comes from.
    """

    def __init__(self, contract: Contract, bundle_sha256: str) -> None:
        """Raises `UsageError` if the bundle has no embedding."""
        if contract.embedding is None:
            raise UsageError("this bundle has no embedding: export its model with --embedding, or leave "
                             "--embeddings out.")
        self._contract, self._sha256 = contract, bundle_sha256
        self._files: list[str] = []
        self._rows: list[tuple[int, float, float, float, FloatArray]] = []  # file, start, end, window_start,
                                                                            # embedding

    @property
    def chunks(self) -> int:
        """The number of chunks that were added."""
        return len(self._rows)

    def begin(self, name: str) -> None:
        """Begin the next sound."""
        self._files.append(name)

    def add(self, start: float, end: float, window_start: float, embedding: FloatArray) -> None:
        """Add a chunk [size] of the sound that was begun last; times in seconds."""
        self._rows.append((len(self._files) - 1, start, end, window_start, embedding))

    def write(self, path: Path) -> None:
        """Write the file atomically. Raises `RunError` if it cannot be written."""
        spec = self._contract.embedding
        assert spec
        numbers = np.array([row[:4] for row in self._rows], np.float64)
        file, start, end, window_start = numbers.reshape(-1, 4).T
        arrays: dict[str, NDArray[np.generic]] = {
            "embedding": np.array([row[4] for row in self._rows], np.float32).reshape(-1, spec.shape[1]),
            "file_number": file.astype(np.int64), "start": start, "end": end, "window_start": window_start,
            "files": np.array(self._files, np.str_), "kind": np.array(self._contract.options.embedding),
            "model": np.array(self._contract.variant), "bundle_sha256": np.array(self._sha256)}
        buffer = io.BytesIO()
        np.savez(buffer, **arrays)  # type: ignore[arg-type]
        write_bytes(path, buffer.getvalue())
