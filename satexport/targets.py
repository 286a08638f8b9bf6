"""Targets: what is wanted on which device, one TOML each in `targets/`.

A target may begin as another one: `extends = "jetson-orin-nano"` takes all that it says but its name, and
what stands beside it, key by key, takes the place of that. What several have in common and is no target by
itself lies in `targets/common/`."""

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
COMMON = "common"  # in that folder
MOST = 4  # targets, each the beginning of the next


def shipped() -> list[Target]:
    """The targets that come with satexport, sorted by name."""
    return [find_target(name) for name in facts.names(FOLDER)]


def find_target(what: str) -> Target:
    """Return a shipped target by name or one from a TOML file by path.

    Raises `UsageError` for an unknown name, `DataError` for a file that is damaged, lacks a key, has one that
    does not exist, or wants what its backend cannot do.
    """
    fields, path = facts.read_facts(FOLDER, what, "target")
    fields = _extend(fields, path)
    name = fields.get("backend")
    if not isinstance(name, str) or name not in backends.BACKENDS:
        if name is not None:  # without it the key is missed below
            raise DataError(f"{path}: backend is {shown(name)}, expected {' or '.join(backends.BACKENDS)}.")
        return Target.from_dict(fields, path)
    backend = backends.find_backend(name)
    if isinstance(table := fields.get("quantization"), dict):
        fields["quantization"] = {**backend.QUANTIZATION, **table}
    target = Target.from_dict(fields, path)
    backend.check(target, path)
    return target


def _extend(fields: dict[str, Any], path: Path) -> dict[str, Any]:
    """The keys of a TOML over those of the one that it extends, and so on. Raises `DataError` if there is
    none of that name, or they extend each other in a circle."""
    for _ in range(MOST):
        if (name := fields.pop("extends", None)) is None:
            return fields
        names = [*facts.names(FOLDER), *facts.names(FOLDER / COMMON)]
        if name not in names:
            raise DataError(f"{path}: extends is {shown(name)}, expected one of {', '.join(names)}; "
                            "a file of your own cannot be extended.")
        folder = FOLDER if name in facts.names(FOLDER) else FOLDER / COMMON
        base, _ = facts.read_facts(folder, name, "target")
        base.pop("name", None)  # two of one name would be written to one place
        fields = _merge(base, fields)
    raise DataError(f"{path}: extends leads over more than {MOST} targets; expected fewer, and no circle.")


def _merge(base: Mapping[str, Any], over: Mapping[str, Any]) -> dict[str, Any]:
    """`over` in place of what `base` says, in tables key by key."""
    merged = dict(base)
    for key, value in over.items():
        old = merged.get(key)
        merged[key] = {**old, **value} if isinstance(old, dict) and isinstance(value, dict) else value
    return merged
