"""Write a folder for the Hugging Face Hub from bundles; `satexport.publish.layout` says what is in it.
Nothing is uploaded."""

from __future__ import annotations

import io
import json
import os
import wave
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from satexport.bundle.folder import GOLDEN, Bundle, labels_text
from satexport.bundle.gates import failures
from satexport.bundle.places import check_outside
from satexport.errors import RunError, UsageError
from satexport.files import read_at_most, sha256_of, staged_folder, write_bytes, write_json, write_text
from satexport.publish.card import CardFacts, attribution_file, card_text
from satexport.publish.config import KEY, config_of, hashes, usual_precision
from satexport.publish.graphs import write_graph
from satexport.publish.layout import (
    ATTRIBUTION,
    AUDIO,
    CARD,
    CONFIG,
    INITIAL_CACHE,
    LABELS,
    REPORTS,
    golden_file,
)
from satexport.publish.licence import Source, find_source
from satexport.publish.parts import UNPROVEN, Part, open_parts
from satexport.terminal import shown

MAX_CONFIG = 50_000_000   # bytes; with 20,000 labels of 200 characters it has 10 MB


@dataclass(frozen=True, kw_only=True)
class HubFolder:
    """A folder that was written."""

    path: Path
    parts: tuple[Part, ...]
    source: Source
    sizes: dict[str, int]    # of its files, bytes

    @property
    def failures(self) -> str:
        """The gates that its graphs failed according to their reports; "" if none."""
        return "; ".join(f"{part.bundle.path}: {failed}" for part in self.parts
                         if part.parity and (failed := failures(part.parity.gates)))

    def notes(self) -> list[str]:
        """What the user should know, or do before the folder is published."""
        notes = [note for part in self.parts for note in part.notes]
        notes += [f"{part.bundle.path} is {UNPROVEN}, and the model card says so: `satexport parity "
                  f"{part.bundle.path}`, then write the folder again."
                  for part in self.parts if part.verdict == UNPROVEN]
        if self.parts[0].bundle.contract.has_random_weights:
            notes.append("The weights are random: the model card says so and gives no accuracy.")
        elif not self.source.licence.is_known:
            name = self.parts[0].bundle.contract.checkpoint.name
            notes.append(f"The licence of {name} is not known: state it with --license, or in "
                         f"{self.path / CARD} before you publish the folder.")
        return notes

    def to_json(self) -> dict[str, Any]:
        return {"folder": str(self.path), "license": self.source.licence.identifier,
                "graphs": [{"file": part.file, "precision": part.precision, "bytes": self.sizes[part.file],
                            "bundle": str(part.bundle.path), "bundle_sha256": part.bundle.sha256,
                            "verdict": part.verdict} for part in self.parts],
                "files": sorted(self.sizes), "notes": self.notes()}


def write_folder(path: Path, bundles: Sequence[Path], licence: str | None = None) -> HubFolder:
    """Write bundles into a folder. One that satexport wrote is replaced as a whole. `licence` is an SPDX
    identifier that the user states.

    Raises what `open_parts`, `find_source` and `write_graph` raise; `UsageError` for a folder inside a
    bundle; `RunError` if a folder there was not written by satexport, if its model card was changed by hand,
    or if it cannot be written.
    """
    path = _find_place(path)
    parts = open_parts(bundles)
    source = find_source(parts[0].bundle.contract, licence)
    check_outside(path)
    with staged_folder(path, _may_replace) as stage:
        for part in parts:
            write_graph(part.bundle, stage / part.file)
        _write_common(stage, parts[0].bundle)
        for part in parts:
            for report in part.reports:
                write_text(stage / REPORTS / part.precision / report.name, report.text)
        sizes = _sizes(stage)
        facts = CardFacts(source=source, sizes=sizes, usual=usual_precision(parts))
        write_text(stage / CARD, card_text(parts, facts))
        write_json(stage / CONFIG, config_of(parts, hashes(stage)))
        sizes = _sizes(stage)
    return HubFolder(path=path, parts=tuple(parts), source=source, sizes=sizes)


def _find_place(path: Path) -> Path:
    """The folder that a path means, also through a link or "."; other paths are left as they are written."""
    place = Path(os.path.realpath(path)) if path.name in ("", "..") or path.is_symlink() else path
    if not place.name:
        raise UsageError(f"{path} is the root of the file system; expected a folder for --output.")
    return place


def _write_common(folder: Path, bundle: Bundle) -> None:
    """Write what all graphs share: labels, initial cache, golden chunks, attribution."""
    contract = bundle.contract
    write_text(folder / LABELS, labels_text(bundle.labels))
    if contract.cache_in:
        caches = (_little_endian(array) for array in bundle.initial_cache())
        write_bytes(folder / INITIAL_CACHE, b"".join(caches))
    (audio,) = bundle.arrays(GOLDEN, ["audio"])
    write_bytes(folder / AUDIO, _wav(audio.astype(np.int16).reshape(-1), contract.sample_rate))
    outputs = bundle.golden()[1]
    for spec, array in zip(contract.outputs, outputs.arrays().values(), strict=True):
        write_bytes(folder / golden_file(spec), _little_endian(array))
    if (file := attribution_file(contract, bundle.labels)) is not None:
        write_bytes(folder / ATTRIBUTION, file.read_bytes())


def _little_endian(array: NDArray[Any]) -> bytes:
    """The numbers of an array row by row."""
    return array.astype(array.dtype.newbyteorder("<"), copy=False).tobytes()


def _wav(samples: NDArray[np.int16], rate: int) -> bytes:
    """A WAV file of 16-bit PCM, mono; its header has 44 bytes."""
    buffer = io.BytesIO()
    with wave.open(buffer, "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(samples.dtype.itemsize)
        file.setframerate(rate)
        file.writeframes(_little_endian(samples))
    return buffer.getvalue()


def _sizes(folder: Path) -> dict[str, int]:
    return {path.relative_to(folder).as_posix(): path.stat().st_size
            for path in sorted(folder.rglob("*")) if path.is_file()}


def _may_replace(path: Path) -> bool:
    """Whether a folder is empty, or one that satexport wrote. Raises `RunError` if it holds files of
    others too, or if its model card was changed by hand."""
    if not path.is_dir():
        return False
    present = set(_sizes(path))
    if not present:
        return not any(path.iterdir())
    try:
        ours = json.loads(read_at_most(path / CONFIG, MAX_CONFIG))[KEY]
        others = sorted(present - {*ours["files"], CONFIG, CARD})
        card_sha256 = ours["card_sha256"]
    except (OSError, ValueError, KeyError, TypeError, RecursionError):
        return False
    if others:
        raise RunError(f"{path} has files that satexport did not write, such as {shown(others[0])}; it was "
                       "not replaced. Move them away, or choose another --output.")
    if CARD in present and sha256_of(path / CARD) != card_sha256:
        raise RunError(f"{path / CARD} was changed after satexport wrote it; it was not replaced. Keep a "
                       "copy of it and move the folder away, or choose another --output.")
    return True
