"""The runtimes: one module each, all meeting the same `Step`.

A module has `PACKAGE`, the runtime's Python package, and `load(bundle, threads, arena, spinning) -> Step`.
The table names modules, so that a runtime is imported only where a bundle asks for it.
"""

from __future__ import annotations

import importlib
import re
from typing import TYPE_CHECKING, cast

from satexport.errors import MissingError
from satexport.step import Step

if TYPE_CHECKING:
    from satexport.bundle.folder import Bundle

BACKENDS = {name: f"satexport.backends.{name}.step" for name in ("onnxruntime", "openvino", "tensorrt")}


def check_version(package: str, found: str, least: tuple[int, int], extra: str) -> None:
    """Raise `MissingError` where a runtime is older than its extra asks for: before it loads anything, for an
    old one may end the process there."""
    if tuple(int(part) for part in re.findall(r"\d+", found)[:2]) < least:
        raise MissingError(f"{package} {found} is here, expected {'.'.join(map(str, least))} or newer: "
                           f"pip install 'satexport[{extra}]'.")


def load_step(bundle: Bundle, threads: int | None = None, arena: bool = True, spinning: bool = True) -> Step:
    """Load a bundle's graph with the runtime its target names; `threads` overrides the target's
    (None: the target's, and where it has none the runtime decides); `arena` False has the runtime
    give back each tensor when it is done with it, where it knows how; `spinning` False has its threads
    sleep between steps, for PyTorch beside it. Raises `MissingError` where
    the runtime is not installed."""
    backend = bundle.target.backend
    if backend not in BACKENDS:
        raise MissingError(f"{bundle.path} is for the backend {backend!r}, this satexport runs "
                           f"{', '.join(BACKENDS)}. Use the version that wrote it.")
    module = importlib.import_module(BACKENDS[backend])
    return cast(Step, module.load(bundle, threads or bundle.target.threads, arena, spinning))
