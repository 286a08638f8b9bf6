"""Read files of weights, and find a file by its SHA-256.

A file contains a state dict that `torch.save` wrote (.pt, .pth), by itself or as the entry `model` or
`state_dict`, or one that safetensors wrote. Its content decides which, not its name, and nothing in it is
executed.

So that `parity` finds the weights of a bundle, the user's cache folder contains a small text file for each
checkpoint, with the path from which it was last loaded. Nothing is copied, and a path is used only while its
file still has the same SHA-256.

A downloaded file must have the SHA-256 that its publisher states or, if none is stated, the one that it had
at its first use.
"""

from __future__ import annotations

import os
import re
from collections.abc import Collection, Iterable, Iterator
from contextlib import contextmanager, suppress
from functools import partial
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from satexport.errors import CheckpointError, RunError
from satexport.files import cache_folder, sha256_of, write_bytes, write_text
from satexport.models.family import Entry, StateFile
from satexport.models.resave import SAVE_WEIGHTS, safetensors_code
from satexport.models.torchfile import read_torch

MAX_HEADER: Final = 1_000_000  # bytes of names and shapes; one of 200 tensors has 30,000
DTYPES: Final = {"F32": "float32", "F16": "float16", "BF16": "bfloat16", "F64": "float64"}


def read_weights(path: Path, marks: Collection[str] = ()) -> StateFile:
    """Return the tensors of a file of weights, and its other entries. `marks` are weight names by which state
    dicts elsewhere in the file are recognised; the error then says how to save only them.

    Raises `CheckpointError` if the file is missing, empty, truncated, of another kind, or a pickle that needs
    more than tensors.
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
            return read_torch(path, marks)
    except FileNotFoundError:
        raise CheckpointError(
            f"{path}: no such file; expected a checkpoint (.pt, .pth or .safetensors), hub:OWNER/REPO for "
            "one on the Hugging Face Hub, or one of the words that need no file: published, demo, random."
        ) from None
    except OSError as error:
        raise CheckpointError(f"{path}: cannot be read ({error.strerror or error}); expected a "
                              "checkpoint file that you may read.") from error
    if not head:
        found = "is empty"
    elif head.lstrip().lower().startswith((b"<!doctype", b"<html")):
        found = "is an HTML page instead of a checkpoint"
    else:
        found = f"is neither a PyTorch nor a safetensors file (it starts with {head[:8]!r})"
    raise CheckpointError(f"{path}: {found}; expected a state dict written by torch.save or "
                          "safetensors: copy or download it again.")


def _read_safetensors(path: Path, header: int) -> StateFile:
    from safetensors import SafetensorError, safe_open

    if header > MAX_HEADER:
        raise CheckpointError(f"{path}: declares a header of {header} bytes, expected at most {MAX_HEADER}: "
                              "it is a damaged safetensors file, or no state dict.")
    try:
        file: Any = safe_open(path, framework="numpy")
    except SafetensorError as error:
        raise CheckpointError(f"{path}: is a damaged safetensors file, probably truncated "
                              f"({error}): copy or download it again.") from error
    parts = {key: file.get_slice(key) for key in file.keys()}  # noqa: SIM118 - no mapping
    return StateFile({key: Entry(tuple(part.get_shape()), DTYPES.get(part.get_dtype(), part.get_dtype()),
                                 partial(file.get_tensor, key)) for key, part in parts.items()},
                     file.metadata() or {}, *safetensors_code(path))


def read_floats(path: Path, key: str, entry: Entry) -> NDArray[np.float32]:
    """Return the values of one tensor in a file as contiguous float32 of its shape. Raises `CheckpointError`
    if their dtype is not float32 or float16, or if they cannot be read or are not finite."""
    if entry.dtype not in ("float32", "float16"):
        raise CheckpointError(
            f"{path}: {key} is {entry.dtype}, expected float32 or float16: save bfloat16 and "
            "float64 again as v.float(). Integer (quantized) weights cannot be used: pass the "
            "checkpoint before quantization.")
    try:
        value = np.ascontiguousarray(entry.read(), np.float32).reshape(entry.shape)
    except (RuntimeError, TypeError) as error:  # a tensor without data, or a sparse one
        raise CheckpointError(f"{path}: {key} cannot be read ({error}); expected a dense "
                              f"tensor: {SAVE_WEIGHTS}.") from error
    if not np.isfinite(value).all():
        raise CheckpointError(f"{path}: {key} has NaN or infinite values, expected finite ones: "
                              "training diverged, or a value was too large for float16; "
                              "pass an earlier checkpoint, or save it in float32.")
    return value


@contextmanager
def check_download(path: Path, note: Path, stated: str | None) -> Iterator[None]:
    """Check the SHA-256 of a downloaded file before a block that reads it. It must equal the stated one or,
    if that is None, the one in the file `note`, which is written after the block has read the file for the
    first time. Raises `CheckpointError`."""
    try:
        sha256, noted = sha256_of(path), _read_note(note)
    except OSError as error:
        raise CheckpointError(f"{path}: cannot be read ({error.strerror or error}); expected a checkpoint "
                              "file that you may read.") from None
    expected = stated or noted
    if expected not in (None, sha256):
        when, trust = "as published", ""
        if stated is None:
            when, trust = f"as at its first use ({note})", f"; if you trust it as it is, remove {note}"
        raise CheckpointError(f"{path}: has SHA-256 {sha256[:12]}..., expected {expected} {when}: the file "
                              f"was changed or damaged. Remove {path.resolve()} to fetch it again{trust}.")
    yield
    if noted is None:
        with suppress(RunError):  # if the folder cannot be written, the file in it cannot change either
            write_text(note, f"{sha256}  {path.name}\n")  # as sha256sum has it


def _read_note(note: Path) -> str | None:
    """Return the SHA-256 in a note; other text if the note is damaged, None if there is no note."""
    try:
        return note.read_text(encoding="utf-8", errors="replace").partition(" ")[0][:64]
    except (FileNotFoundError, NotADirectoryError):
        return None


def remember(sha256: str, path: Path) -> None:
    """Note the path of the file with this SHA-256. A cache folder that cannot be written is not an error: the
    user then has to name the file again."""
    try:
        note = _note_path(sha256)
        note.parent.mkdir(parents=True, exist_ok=True)
        write_bytes(note, os.fsencode(path.resolve()))
    except (OSError, RuntimeError, RunError):
        pass


def find_by_sha256(sha256: str, shipped: Iterable[Path] = ()) -> Path | None:
    """Return a file with this SHA-256: one of the `shipped` files, or the remembered one if it still exists
    unchanged; else None."""
    if not re.fullmatch("[0-9a-f]{64}", sha256):  # it comes from a bundle and must not lead to another path
        return None
    for find in (*(partial(Path, path) for path in shipped), partial(_read_path, sha256)):
        try:
            path = find()
            if path.is_file() and sha256_of(path) == sha256:
                return path
        except (OSError, RuntimeError, ValueError):  # no note, an unreadable one, no such drive
            continue
    return None


def _note_path(sha256: str) -> Path:
    return cache_folder() / "checkpoints" / f"{sha256}.txt"


def _read_path(sha256: str) -> Path:
    return Path(os.fsdecode(_note_path(sha256).read_bytes()))
