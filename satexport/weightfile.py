"""Files of weights: what is in one, and where one with a known SHA-256 lies.

A file is a state dict written by `torch.save` (.pt, .pth), bare or as the entry `model`, or
by safetensors. Its content decides which, not its ending, and nothing in it is executed.

So that `parity` finds the weights that a bundle was made from, one small text file per
checkpoint in the user's cache folder holds the path it was last loaded from. Nothing is
copied, and a path counts only while its file still has the hash.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any, Final, NamedTuple

from numpy.typing import NDArray

from satexport.errors import CheckpointError
from satexport.files import cache_folder, sha256_of

DEMO: Final = Path(__file__).parent / "data" / "demo-sat-t-2s.safetensors"
SAVE_WEIGHTS: Final = "save the weights alone: torch.save(model.state_dict(), 'weights.pt')"
MAX_HEADER: Final = 100_000_000  # bytes, safetensors' own limit
DTYPES: Final = {"F32": "float32", "F16": "float16", "BF16": "bfloat16", "F64": "float64"}


class Entry(NamedTuple):
    """One tensor of a file, its values not yet read."""

    shape: tuple[int, ...]
    dtype: str  # "float32"
    read: Callable[[], NDArray[Any]]


def read_entries(path: Path) -> dict[str, Entry]:
    """Return the tensors of a file of weights by name.

    Raises `CheckpointError` where the file is missing, empty, truncated, something else, or
    a pickle that needs more than tensors.
    """
    try:
        if path.exists() and not path.is_file():
            kind = "a folder" if path.is_dir() else "a pipe or device"
            raise CheckpointError(f"{path}: is {kind}; expected a checkpoint file.")
        with path.open("rb") as file:
            head = file.read(512)
        if head[8:9] == b"{" and int.from_bytes(head[:8], "little") <= MAX_HEADER:
            return _read_safetensors(path)
        if head.startswith((b"PK\x03\x04", b"\x80")):  # zip, or a pickle (torch before 1.6)
            return _read_torch(path)
    except FileNotFoundError:
        raise CheckpointError(
            f"{path}: no such file; expected a checkpoint (.pt, .pth or .safetensors), or one "
            "of the words that need no file: published, demo, random.") from None
    except OSError as error:
        raise CheckpointError(f"{path}: cannot be read ({error.strerror}); expected a "
                              "checkpoint file that you may read.") from error
    if not head:
        found = "is empty"
    elif head.lstrip().lower().startswith((b"<!doctype", b"<html")):
        found = "is an HTML page and not the file behind it"
    else:
        found = f"is neither a PyTorch nor a safetensors file (it starts with {head[:8]!r})"
    raise CheckpointError(f"{path}: {found}; expected a state dict written by torch.save or "
                          "safetensors: copy or download it again.")


def _read_safetensors(path: Path) -> dict[str, Entry]:
    from safetensors import SafetensorError, safe_open

    try:
        file: Any = safe_open(path, framework="numpy")
    except SafetensorError as error:
        raise CheckpointError(f"{path}: is a damaged safetensors file, probably truncated "
                              f"({error}): copy or download it again.") from error
    parts = {key: file.get_slice(key) for key in file.keys()}  # noqa: SIM118 - no mapping
    return {key: Entry(tuple(part.get_shape()), DTYPES.get(part.get_dtype(), part.get_dtype()),
                       partial(file.get_tensor, key)) for key, part in parts.items()}


def _read_torch(path: Path) -> dict[str, Entry]:
    import torch

    # An open file: from a path, torch.load would judge by the ending. Not mapped into memory:
    # the weights must not change when the file does.
    try:
        with path.open("rb") as file:
            loaded = torch.load(file, map_location="cpu", weights_only=True)
    except Exception as error:  # a damaged or hostile file raises anything, OSError too
        raise CheckpointError(f"{path}: {_torch_fault(error)}") from error
    if isinstance(loaded, dict) and isinstance(loaded.get("model"), dict):
        loaded = loaded["model"]
    if not isinstance(loaded, dict) or not loaded:
        kind = "an empty dict" if loaded == {} else f"one {type(loaded).__name__}"
        raise CheckpointError(f"{path}: holds {kind}, expected a state dict (names and "
                              f"tensors): {SAVE_WEIGHTS}.")
    for key, value in loaded.items():
        if not (isinstance(key, str) and isinstance(value, torch.Tensor)):
            raise CheckpointError(
                f"{path}: its entry {key!r} is no tensor but {type(value).__name__}; expected a "
                f"state dict, bare or as the entry 'model': {SAVE_WEIGHTS}.")
    return {key: Entry(tuple(value.shape), str(value.dtype).removeprefix("torch."),
                       partial(value.numpy, force=True)) for key, value in loaded.items()}


def _torch_fault(error: Exception) -> str:
    """Say in plain words why torch.load refused a file."""
    text = str(error)
    if code := re.search(r"GLOBAL ([\w.]+)", text):
        return (f"is a pickle that needs {code[1]}, expected tensors alone; nothing in it was "
                "executed. If it is a whole model or has other objects beside the weights, "
                f"{SAVE_WEIGHTS}.")
    if "TorchScript" in text:
        return f"is a TorchScript program, expected a state dict: {SAVE_WEIGHTS}."
    return ("is damaged, or something else than torch.save wrote it. If it was truncated, copy "
            f"or download it again; else {SAVE_WEIGHTS}.")


def remember(sha256: str, path: Path) -> None:
    """Note where the file with this hash lies. A cache folder that cannot be written is no
    error: the file then has to be named again."""
    try:
        note = _note(sha256)
        note.parent.mkdir(parents=True, exist_ok=True)
        note.write_text(str(path.resolve()), encoding="utf-8", errors="surrogateescape")
    except (OSError, RuntimeError):
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
    return Path(_note(sha256).read_text(encoding="utf-8", errors="surrogateescape"))
