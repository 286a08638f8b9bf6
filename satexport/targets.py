"""Targets: device, precision and gates of a bundle, one TOML file each in `targets/`.

A target may extend another one: with `extends = "jetson-orin-nano"` it starts from all keys of that target
except its name, and its own keys override them, also inside tables. Files in `targets/common/` have keys that
several targets share; they are not targets themselves."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from satexport import facts
from satexport.backends import backend as backends
from satexport.bundle.target import Target
from satexport.errors import DataError
from satexport.terminal import shown

FOLDER = facts.shipped_folder("targets")
COMMON = "common"  # subfolder
MAX_DEPTH = 4  # targets in a chain of `extends`


def shipped() -> list[Target]:
    """Return the targets that come with satexport, sorted by name."""
    return [find_target(name) for name in facts.names(FOLDER)]


def find_target(what: str) -> Target:
    """Return a shipped target by name, or a target from a TOML file by path.

    Raises `UsageError` for an unknown name, `DataError` for a file that is damaged, lacks a key, has an
    unknown key, or asks for something that its backend cannot do.
    """
    fields, path = facts.read_facts(FOLDER, what, "target")
    fields = _extend(fields, path)
    name = fields.get("backend")
    if not isinstance(name, str) or name not in backends.BACKENDS:
        if name is not None:  # from_dict reports a missing key
            raise DataError(f"{path}: backend is {shown(name)}, expected {' or '.join(backends.BACKENDS)}.")
        return Target.from_dict(fields, path)
    backend = backends.find_backend(name)
    if isinstance(table := fields.get("quantization"), dict):
        fields["quantization"] = {**backend.QUANTIZATION, **table}
    target = Target.from_dict(fields, path)
    backend.check(target, path)
    return target


def _extend(fields: dict[str, Any], path: Path) -> dict[str, Any]:
    """Return the keys of a TOML file merged over those of the target that it extends, recursively. Raises
    `DataError` if there is no such target, or if targets extend each other in a circle."""
    for _ in range(MAX_DEPTH):
        if (name := fields.pop("extends", None)) is None:
            return fields
        names = [*facts.names(FOLDER), *facts.names(FOLDER / COMMON)]
        if name not in names:
            raise DataError(f"{path}: extends is {shown(name)}, expected one of {', '.join(names)}; "
                            "only shipped targets can be extended.")
        folder = FOLDER if name in facts.names(FOLDER) else FOLDER / COMMON
        base, _ = facts.read_facts(folder, name, "target")
        base.pop("name", None)  # two targets with the same name would be written to the same folder
        fields = _merge(base, fields)
    raise DataError(f"{path}: a chain of extends has more than {MAX_DEPTH} targets; expected fewer, and no "
                    "circle.")


def _merge(base: Mapping[str, Any], over: Mapping[str, Any]) -> dict[str, Any]:
    """Return `base` with the keys of `over`; tables are merged key by key."""
    merged = dict(base)
    for key, value in over.items():
        old = merged.get(key)
        merged[key] = {**old, **value} if isinstance(old, dict) and isinstance(value, dict) else value
    return merged
