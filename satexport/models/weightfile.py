"""Files of weights: what is in one, and where one with a known SHA-256 lies.

A file is a state dict written by `torch.save` (.pt, .pth), bare or as the entry `model`, or
by safetensors. Its content decides which, not its ending, and nothing in it is executed.

So that `parity` finds the weights that a bundle was made from, one small text file per
checkpoint in the user's cache folder holds the path it was last loaded from. Nothing is
copied, and a path counts only while its file still has the hash.
"""

from __future__ import annotations

import os
import re
from functools import partial
from pathlib import Path
from typing import Any, Final

from satexport.errors import CheckpointError, RunError
from satexport.files import PACKAGE, cache_folder, sha256_of, write_bytes
from satexport.models.resave import Entry, Weights, safetensors_code
from satexport.models.torchfile import read_torch

DEMO: Final = PACKAGE / "data" / "demo-sat-t-2s.safetensors"
MAX_HEADER: Final = 1_000_000  # bytes of names and shapes; a state dict of ours has 30,000
DTYPES: Final = {"F32": "float32", "F16": "float16", "BF16": "bfloat16", "F64": "float64"}


def read_weights(path: Path) -> Weights:
    """Return the tensors of a file of weights.

    Raises `CheckpointError` where the file is missing, empty, truncated, something else, or
    a pickle that needs more than tensors.
    """
    try:
        if path.exists() and not path.is_file():
            kind = "a folder" if path.is_dir() else "a pipe or device"
            raise CheckpointError(f"{path}: is {kind}; expected a checkpoint file.")
        with path.open("rb") as file:
            head = file.read(512)
        if head[8:9] == b"{":
            return _read_safetensors(path, int.from_bytes(head[:8], "little"))
        if head.startswith((b"PK\x03\x04", b"\x80")):  # zip, or a pickle (torch before 1.6)
            return read_torch(path)
    except FileNotFoundError:
        raise CheckpointError(
            f"{path}: no such file; expected a checkpoint (.pt, .pth or .safetensors), or one "
            "of the words that need no file: published, demo, random.") from None
    except OSError as error:
        raise CheckpointError(f"{path}: cannot be read ({error.strerror or error}); expected a "
                              "checkpoint file that you may read.") from error
    if not head:
        found = "is empty"
    elif head.lstrip().lower().startswith((b"<!doctype", b"<html")):
        found = "is an HTML page and not the file behind it"
    else:
        found = f"is neither a PyTorch nor a safetensors file (it starts with {head[:8]!r})"
    raise CheckpointError(f"{path}: {found}; expected a state dict written by torch.save or "
                          "safetensors: copy or download it again.")


def _read_safetensors(path: Path, header: int) -> Weights:
    from safetensors import SafetensorError, safe_open

    if header > MAX_HEADER:
        raise CheckpointError(f"{path}: says that its header has {header} bytes, expected at most "
                              f"{MAX_HEADER}: it is a damaged safetensors file, or no SAT or ViT.")
    try:
        file: Any = safe_open(path, framework="numpy")
    except SafetensorError as error:
        raise CheckpointError(f"{path}: is a damaged safetensors file, probably truncated "
                              f"({error}): copy or download it again.") from error
    parts = {key: file.get_slice(key) for key in file.keys()}  # noqa: SIM118 - no mapping
    return Weights({key: Entry(tuple(part.get_shape()), DTYPES.get(part.get_dtype(), part.get_dtype()),
                               partial(file.get_tensor, key)) for key, part in parts.items()},
                   *safetensors_code(path))


def remember(sha256: str, path: Path) -> None:
    """Note where the file with this hash lies. A cache folder that cannot be written is no
    error: the file then has to be named again."""
    try:
        note = _note(sha256)
        note.parent.mkdir(parents=True, exist_ok=True)
        write_bytes(note, os.fsencode(path.resolve()))
    except (OSError, RuntimeError, RunError):
        pass


def find_by_sha256(sha256: str) -> Path | None:
    """Return a file with this hash: the demo in the package, or the one that was remembered
    where it is still there and still the same; else None."""
    if not re.fullmatch("[0-9a-f]{64}", sha256):  # a bundle's word must not become a path
        return None
    for place in (_demo, _remembered):
        try:
            path = place(sha256)
            if path.is_file() and sha256_of(path) == sha256:
                return path
        except (OSError, RuntimeError, ValueError):  # no note, an unreadable one, no such drive
            continue
    return None


def _demo(_sha256: str) -> Path:
    return DEMO


def _note(sha256: str) -> Path:
    return cache_folder() / "checkpoints" / f"{sha256}.txt"


def _remembered(sha256: str) -> Path:
    return Path(os.fsdecode(_note(sha256).read_bytes()))
