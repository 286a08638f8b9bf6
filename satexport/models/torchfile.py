"""Read files that torch.save wrote. Their pickles are inspected first, so that torch builds only tensors of
reasonable size."""

from __future__ import annotations

import io
import pickle
import pickletools
import re
import warnings
import zipfile
from collections import OrderedDict
from collections.abc import Collection, Iterator, Mapping
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import IO, Any, Final

from satexport.errors import CheckpointError
from satexport.models.family import Entry, StateFile
from satexport.models.resave import MAX_CODE, SAVE_WEIGHTS, resave, torch_code
from satexport.terminal import clipped, shown

MAX_BYTES: Final = 2_000_000_000  # of a file, read into memory; 86 M weights and their optimizer take 1 GB
MAX_PICKLE: Final = 20_000_000    # bytes of the pickle with the names and shapes
MAX_OPCODES: Final = 1_000_000    # of that pickle; a state dict has 25 per tensor
MAX_TUPLES: Final = 20_000        # a state dict has 4 per tensor; 100,000 nested ones crash Python's hash
PROTOCOLS: Final = (2, 3)         # pickle protocols that torch reads without executing code
ENTRIES: Final = ("model", "state_dict")  # of a file, that may be its state dict
LIGHTNING: Final = "pytorch-lightning_version"  # an entry of every file that Lightning wrote
MAX_FILLED: Final = 10            # unknown classes of dicts and lists in it: for each, it is read once more
MAX_LEVELS: Final = 3             # depth of nested dicts that are searched for weights
# functions that a pickle of a hundred bytes can make torch call to allocate any amount of memory
GROWING: Final = ("builtins bytearray", "__builtin__ bytearray", "_codecs encode")
DAMAGED: Final = ("is damaged, or was not written by torch.save. If it was truncated, copy or download it "
                  f"again; otherwise {SAVE_WEIGHTS}.")


def read_torch(path: Path, marks: Collection[str]) -> StateFile:
    """Return the tensors of a state dict, which is the whole file or one of its ENTRIES; then also the other
    entries. `marks` are weight names; an error recognises state dicts elsewhere in the file by them. Raises
    `CheckpointError` if the file has other content, `OSError` if it cannot be read."""
    if fault := _fault(path):
        raise CheckpointError(f"{path}: {fault}")
    loaded = _load(path)
    state, others, place = loaded, {}, ""
    if entry := _find_entry(loaded):
        others = dict(loaded)
        state, place = others.pop(entry), f"[{entry!r}]"
    if fault := _state_dict_fault(state):
        raise CheckpointError(f"{path}: {fault}, expected a state dict (names and tensors), by itself or as "
                              f"the entry {' or '.join(map(repr, ENTRIES))}. {_advice(path, loaded, marks)}")
    return StateFile({key: Entry(tuple(value.shape), str(value.dtype).removeprefix("torch."),
                                 partial(value.numpy, force=True)) for key, value in state.items()},
                     others, *torch_code(path, place))


def _load(path: Path) -> Any:
    """Return the content of a file; nothing in it is executed. Raises `CheckpointError` if it has objects
    besides tensors and Python's own, unless Lightning wrote it: its settings and the state of its callbacks
    are not needed, so an object of an unknown class becomes an empty one."""
    import torch

    try:
        return _load_safely(path)
    except Exception as error:  # a damaged or hostile file raises anything, OSError too
        with suppress(Exception):
            names = torch.serialization.get_unsafe_globals_in_checkpoint(path)
            loaded = _load_with_stand_ins(path, names)
            if isinstance(loaded, dict) and LIGHTNING in loaded:
                return loaded
        raise CheckpointError(f"{path}: {_explain_refusal(error)}") from error


def _load_with_stand_ins(path: Path, names: Collection[str]) -> Any:
    """Return the content of a file, read with an empty class in place of each class or function in `names`,
    "module.name". torch adds items only to plain dicts and lists: if it refuses to add to a stand-in, the
    file is read again with one that makes those."""
    import torch

    kinds: dict[str, type] = dict.fromkeys(names, _Ignored)
    while True:
        stand_ins = [_stand_in(name, kind) for name, kind in kinds.items()]
        try:
            with torch.serialization.safe_globals(stand_ins):
                return _load_safely(path)
        except pickle.UnpicklingError as error:
            refused = re.search(r"Can only (\w+) .*but got <class '(.+?)'>", str(error))
            filled = sum(kind is not _Ignored for kind in kinds.values())
            if not refused or kinds.get(refused[2]) is not _Ignored or filled == MAX_FILLED:
                raise
            kinds[refused[2]] = _IgnoredDict if refused[1].startswith("SETITEM") else _IgnoredList


def _load_safely(path: Path) -> Any:
    import torch

    # Pass an open file, because for a path torch.load depends on the ending. Do not map it into memory,
    # because the weights must not change if the file does.
    with path.open("rb") as file, warnings.catch_warnings():
        warnings.simplefilter("ignore")  # torch warns of protocol 3
        return torch.load(file, map_location="cpu", weights_only=True)


class _Ignored:
    """An object that takes any content and keeps none."""

    def __new__(cls, *content: object) -> _Ignored:
        return super().__new__(cls)

    def __init__(self, *content: object) -> None:
        pass

    def __setstate__(self, content: object) -> None:
        pass


class _IgnoredDict:
    """In place of a class that derives from dict: makes a plain one, whose attributes are kept, too."""

    def __new__(cls, *content: object) -> OrderedDict[Any, Any]:  # type: ignore[misc]
        return OrderedDict()


class _IgnoredList:
    """In place of a class that derives from list: makes a plain one."""

    def __new__(cls, *content: object) -> list[Any]:  # type: ignore[misc]
        return []


def _stand_in(name: str, kind: type) -> Any:
    """Return a class of a kind with the name of a class or function in a pickle, "module.name"."""
    module, _, last = name.rpartition(".")
    return type(last, (kind,), {"__module__": module})


def _find_entry(loaded: Any) -> str:
    """Return the name of the entry that is the state dict; "" if it is the whole file."""
    dicts = [name for name in ENTRIES if isinstance(loaded, dict) and isinstance(loaded.get(name), dict)]
    return next((name for name in dicts if not _state_dict_fault(loaded[name])), dicts[0] if dicts else "")


def _state_dict_fault(state: object) -> str:
    """Describe why this is not a state dict; "" if it is one."""
    import torch

    if not isinstance(state, dict) or not state:
        return "holds an empty dict" if state == {} else f"holds one {type(state).__name__}"
    for key, value in state.items():
        if not isinstance(key, str):
            return f"its key {shown(key)} is not a name but {type(key).__name__}"
        if not isinstance(value, torch.Tensor):
            return f"its entry {shown(key)} is not a tensor but {type(value).__name__}"
    return ""


def _advice(path: Path, loaded: object, marks: Collection[str]) -> str:
    """Return advice on how to save only the weights, which may be anywhere in a loaded file."""
    places = list(_find_places(loaded, marks))
    if not places:
        return f"If it contains weights, {SAVE_WEIGHTS}."
    place, prefix = places[0]
    others = ", ".join(clipped(other) for other in sorted({other for other, _ in places[1:]}))
    words = [f"The weights are in {clipped(place)}" if place else "The weights are next to it",
             f", their names start with {shown(prefix)}" if prefix else "",
             f" (others are in {others})" if places[1:] else ""]
    return f"{''.join(words)}: " + resave(*torch_code(path, place), prefix, [
        "isinstance(k, str)", "isinstance(v, torch.Tensor)"])


def _find_places(loaded: object, marks: Collection[str], place: str = "",
                 level: int = 0) -> Iterator[tuple[str, str]]:
    """Yield the place of each state dict in nested dicts, such as "['model']", and the prefix of its weight
    names."""
    if not isinstance(loaded, Mapping):
        return
    for key in loaded:
        for mark in marks if isinstance(key, str) else ():
            if key == mark or key.endswith(f".{mark}"):
                yield place, key.removesuffix(mark)
    if level < MAX_LEVELS:
        for key, value in loaded.items():
            if isinstance(key, str | int):
                yield from _find_places(value, marks, f"{place}[{key!r}]", level + 1)


def _explain_refusal(error: Exception) -> str:
    """Describe why torch.load refused a file."""
    text = str(error)
    if code := re.search(r"GLOBAL ([\w.]+)", text):
        return _code_fault(code[1])
    if "TorchScript" in text:
        return f"is a TorchScript program, expected a state dict: {SAVE_WEIGHTS}."
    return DAMAGED


def _code_fault(name: str) -> str:
    return (f"is a pickle that needs {name}, expected only tensors; nothing in it was executed. If it is a "
            f"whole model or has other objects besides the weights, {SAVE_WEIGHTS}.")


# Checks before torch reads the file: how much memory would it need?

def _fault(path: Path) -> str:
    """Describe why torch must not read a file; "" if it may."""
    size = path.stat().st_size
    if size > MAX_BYTES:
        return f"has {size / 1e9:.1f} GB, expected at most {MAX_BYTES / 1e9:g}: {SAVE_WEIGHTS}."
    with path.open("rb") as file:
        if file.peek(2)[:2] != b"PK":  # torch before 1.6: number, version, machine, content, keys, values
            return _pickle_fault(path, file, pickles=5)
        try:
            with zipfile.ZipFile(file) as archive:
                return _zip_fault(path, archive, size)
        except Exception:  # zipfile raises its own errors and what each of its decompressors raises
            return DAMAGED


def _zip_fault(path: Path, archive: zipfile.ZipFile, size: int) -> str:
    parts = archive.infolist()
    if any(part.filename.endswith("/constants.pkl") for part in parts):
        return ""  # TorchScript: torch.load reports that
    if sum(part.file_size for part in parts) > size:
        return f"unpacks to more bytes than it has, which no file of torch.save does: {SAVE_WEIGHTS}."
    for part in parts:
        if part.filename.endswith("data.pkl"):
            if part.file_size > MAX_PICKLE:
                return _size_fault()
            if fault := _pickle_fault(path, io.BytesIO(archive.read(part)), pickles=1):
                return fault
    return ""


def _pickle_fault(path: Path, file: IO[bytes], pickles: int) -> str:
    """Describe why torch must not read the first pickles in a file; "" if it may. If a pickle is damaged,
    torch.load reports that."""
    tuples = number = 0
    try:
        for _ in range(pickles):
            protocol = 0
            for opcode, argument, _position in pickletools.genops(file):
                number += 1
                tuples += opcode.name.startswith("TUPLE")
                if opcode.name == "PROTO":
                    protocol = int(str(argument))
                if protocol not in PROTOCOLS:
                    return _protocol_fault(path, protocol) if protocol <= pickle.HIGHEST_PROTOCOL else DAMAGED
                if opcode.name == "GLOBAL" and argument in GROWING:
                    return _code_fault(str(argument).replace(" ", "."))
                if number > MAX_OPCODES or tuples > MAX_TUPLES:
                    return _size_fault()
    except Exception:  # genops raises ValueError and the errors of its decoders
        return ""
    return ""


def _size_fault() -> str:
    return f"holds far more objects than a state dict: {SAVE_WEIGHTS}."


def _protocol_fault(path: Path, protocol: int) -> str:
    fault = (f"is written in pickle protocol {protocol or '0 or 1'}; torch reads weights without executing "
             "code only from protocol 2, its default. Save it again with the program that wrote it, without "
             "pickle_protocol.")
    load, save = torch_code(path, weights_only=False)
    how = f"{load}; {save.format('state')}"
    return fault if protocol == 0 or len(how) > MAX_CODE else (
        f"{fault} Or, only if you trust the file, because this executes the code in it: {how}")
