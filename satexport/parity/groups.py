"""Groups of clips: what one task of a cluster scores, and what is kept of it.

A group is read once, and PyTorch and the bundle score the same audio in the same task. Which clips share a
step changes rounding, so the groups of a set are fixed: its results do not depend on who scores which group.
"""

from __future__ import annotations

import io
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import Any
from zipfile import BadZipFile

import numpy as np
from numpy.typing import NDArray

from satexport.audio.clips import Clip, clip_hash, clip_seconds
from satexport.bundle.folder import open_bundle
from satexport.errors import AudioError, BundleError, DataError, MissingError, requires_extra
from satexport.origin import read_cpu
from satexport.parity.golden import proof_streams
from satexport.parity.pytorch import PyTorch, load_pytorch
from satexport.step import FloatArray, Outputs
from satexport.tagging.samples import to_float
from satexport.tagging.stream import clip_outputs
from satexport.tagging.tagger import Tagger, load

GROUP = 8   # clips, or a few more: a multiple of the streams of a step
Array = NDArray[Any]


@dataclass(frozen=True, kw_only=True)
class Scorers:
    """What scores clips: a bundle and, for parity, PyTorch with its weights. A worker loads them by this."""

    bundle: Path                # absolute
    sha256: str
    threads: int | None         # of each of the two; None: as they are loaded by default
    pytorch: bool
    checkpoint: str | None = None   # the file of the weights; None: found by their SHA-256


@dataclass(frozen=True)
class Loaded:
    """The same, ready to run."""

    tagger: Tagger
    pytorch: PyTorch | None


_lent: dict[Scorers, Loaded] = {}  # of this process


@contextmanager
def lend(scorers: Scorers, loaded: Loaded) -> Iterator[None]:
    """Let tasks in this process use what it has loaded already."""
    _lent[scorers] = loaded
    try:
        yield
    finally:
        del _lent[scorers]


def find_loaded(scorers: Scorers) -> Loaded:
    """Return the scorers of this process, which a worker loads for its first task. Raises the errors of
    `load` and `load_pytorch`, and `BundleError` for another bundle at this path."""
    return _lent.get(scorers) or _load(scorers)


@lru_cache(maxsize=1)
def _load(scorers: Scorers) -> Loaded:
    bundle = open_bundle(scorers.bundle)
    if bundle.sha256 != scorers.sha256:
        raise BundleError(f"{scorers.bundle} has the SHA-256 {bundle.sha256[:12]}..., expected that of the "
                          f"command, {scorers.sha256[:12]}...: each worker must see the same bundle at this "
                          "path.")
    if not scorers.pytorch:
        return Loaded(load(scorers.bundle, scorers.threads), None)
    with requires_extra("export"):
        import torch
    if scorers.threads:
        torch.set_num_threads(scorers.threads)
    return Loaded(load(scorers.bundle, scorers.threads),
                  load_pytorch(bundle, scorers.checkpoint, keeps_clips=False))


@dataclass(frozen=True, kw_only=True)
class Check:
    """What every worker must have: the scorers, and the first recording of the set."""

    scorers: Scorers
    file: Path | None


def check_worker(check: Check) -> str:
    """Load the scorers, and return the name of the CPU. Raises `MissingError` if the recording is not
    there."""
    find_loaded(check.scorers)
    if check.file and not check.file.is_file():
        raise MissingError(f"{check.file}: is not there; expected the recordings of the set at the same path "
                           "as this command sees them. Mount the folder on each worker.")
    return read_cpu().name


@dataclass(frozen=True, kw_only=True)
class Group:
    """What is kept of a group whose clips were scored."""

    number: int
    read: tuple[int, ...]           # positions of the clips that could be read
    hashes: tuple[str, ...]         # the `clip_hash` of each of these
    seconds: tuple[float, ...]      # their lengths
    unreadable: Mapping[int, str] = field(default_factory=dict)  # position of each other clip -> why
    figures: Mapping[str, Array] = field(default_factory=dict)   # see `satexport.parity.scores`; {}: no clip


def read_group(number: int, clips: Sequence[Clip], rate: int) -> tuple[Group, list[FloatArray]]:
    """Read the clips of a group at a sample rate in Hz. Returns the group without figures, and the audio of
    those that could be read, [samples] each."""
    audios: dict[int, FloatArray] = {}
    unreadable: dict[int, str] = {}
    for position, clip in enumerate(clips):
        try:
            audio = clip.read(rate)
            to_float(audio)
        except (AudioError, DataError) as error:
            unreadable[position] = str(error)
        else:
            audios[position] = audio
    return Group(number=number, read=tuple(audios), hashes=tuple(map(clip_hash, audios.values())),
                 seconds=tuple(clip_seconds(audio, rate) for audio in audios.values()),
                 unreadable=unreadable), list(audios.values())


def group_size(tagger: Tagger) -> int:
    """The number of clips in a group."""
    streams = len(proof_streams(tagger.step, tagger.contract))
    return streams * -(-GROUP // streams)


def outputs_of(tagger: Tagger, audios: Sequence[FloatArray]) -> list[Outputs]:
    """The outputs of a bundle for clips [samples], each from silence: of each clip [chunks, ...]."""
    streams, found = proof_streams(tagger.step, tagger.contract), list[Outputs]()
    for first in range(0, len(audios), len(streams)):
        found += clip_outputs(streams, audios[first:first + len(streams)])
    return found


def group_to_bytes(group: Group) -> bytes:
    """The content of a file with a group, an .npz."""
    file = io.BytesIO()
    arrays: dict[str, Any] = {
        "number": group.number, "read": np.array(group.read, np.int64),
        "hashes": np.array(group.hashes, "U64"), "seconds": np.array(group.seconds),
        "unreadable": np.array(list(group.unreadable), np.int64),
        "reasons": np.array(list(group.unreadable.values()), str)}
    arrays |= {f"figures/{name}": array for name, array in group.figures.items()}
    np.savez(file, **arrays)
    return file.getvalue()


def group_from_bytes(content: bytes) -> Group | None:
    """The group in the content of a file; None if it is damaged."""
    try:
        with np.load(io.BytesIO(content), allow_pickle=False) as file:
            arrays = dict(file)
        return Group(
            number=int(arrays["number"]), read=tuple(arrays["read"].tolist()),
            hashes=tuple(arrays["hashes"].tolist()), seconds=tuple(arrays["seconds"].tolist()),
            unreadable=dict(zip(arrays["unreadable"].tolist(), arrays["reasons"].tolist(), strict=True)),
            figures={name.removeprefix("figures/"): array for name, array in arrays.items()
                     if name.startswith("figures/")})
    except (OSError, ValueError, KeyError, EOFError, BadZipFile):
        return None
