"""Targets: what is wanted on which device, one TOML each in `targets/`."""

from __future__ import annotations

from dataclasses import replace

from satexport import facts
from satexport.backends import BACKENDS
from satexport.backends.openvino.step import floats_of
from satexport.backends.tensorrt.engine import import_tensorrt
from satexport.backends.tensorrt.step import RTX
from satexport.bundle.target import Target
from satexport.errors import DataError
from satexport.terminal import shown

FOLDER = facts.shipped_folder("targets")


def shipped() -> list[Target]:
    """The targets that come with satexport, sorted by name."""
    return [find_target(name) for name in facts.names(FOLDER)]


def find_target(what: str) -> Target:
    """Return a shipped target by name or one from a TOML file by path.

    Raises `UsageError` for an unknown name, `DataError` for a file that is damaged, lacks a key
    or has one that does not exist.
    """
    fields, path = facts.read_facts(FOLDER, what, "target")
    target = Target.from_dict(fields, path)
    if target.backend not in BACKENDS:  # a bundle for one that is not here says so when it is loaded
        raise DataError(f"{path}: backend is {shown(target.backend)}, expected "
                        f"{' or '.join(BACKENDS)}.")
    return target


def resolved(target: Target) -> Target:
    """A target whose every choice is made. Raises `MissingError` where the runtime, the device or the
    precision is not here."""
    if target.tensorrt and target.tensorrt.module == RTX:
        import_tensorrt(RTX)
    if target.openvino is None:
        return target
    return replace(target, openvino=replace(target.openvino, floats=floats_of(target)))
