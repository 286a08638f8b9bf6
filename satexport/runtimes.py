"""Import a runtime with its telemetry off: no file in the user's home folder, no look-up of a host.

ONNX Runtime (1.31) and OpenVINO (2026.4) report their use to their makers by default, and huggingface_hub
(2.4) fetches and keeps a list of coding agents to report whether one runs it. A device that
listens must do nothing that its owner did not ask for, so whatever satexport imports of them is imported
here; nothing is changed at `import satexport`. A choice of the user's own is left alone: a value of
`ORT_DISABLE_TELEMETRY` or `HF_HUB_DISABLE_TELEMETRY` that is not empty, and OpenVINO's consent file with "1"
in it, as its `opt_in_out --opt_in` writes it.
"""

from __future__ import annotations

import importlib
import os
import re
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from threading import RLock
from typing import Any

from satexport.errors import MissingError

SWITCH = "ORT_DISABLE_TELEMETRY"  # of ONNX Runtime, which others import; read when its library is loaded
SWITCHES = {"huggingface_hub": "HF_HUB_DISABLE_TELEMETRY"}  # of packages with one of their own
REPORTER = "openvino_telemetry"   # OpenVINO's package for it; without it OpenVINO's own stub does nothing
_LOCK = RLock()                   # `sys.modules` is changed by one thread at a time


def import_runtime(name: str) -> Any:
    """Return a runtime's module, such as "onnxruntime" or "openvino.passes". Raises `ImportError` where it is
    not installed. A runtime that the process has imported before is left as it was imported."""
    if name in sys.modules:
        return importlib.import_module(name)
    switch = SWITCHES.get(name.partition(".")[0], SWITCH)
    if not os.environ.get(switch):
        os.environ[switch] = "1"
    with _LOCK, _hidden(REPORTER, unless=_has_consented()):
        return importlib.import_module(name)


def check_version(package: str, found: str, least: tuple[int, int], extra: str) -> None:
    """Raise `MissingError` where a runtime is older than its extra asks for. Call it before the runtime loads
    anything: an old one may end the process there."""
    if tuple(int(part) for part in re.findall(r"\d+", found)[:2]) < least:
        raise MissingError(f"{package} {found} is here, expected {'.'.join(map(str, least))} or newer: "
                           f"pip install 'satexport[{extra}]'.")


@contextmanager
def _hidden(package: str, unless: bool) -> Iterator[None]:
    """Let an import of a package fail inside the block (a None in `sys.modules` does)."""
    if unless:
        yield
        return
    there = {key: module for key, module in sys.modules.items() if key.partition(".")[0] == package}
    sys.modules[package] = None  # type: ignore[assignment]
    try:
        yield
    finally:
        del sys.modules[package]
        sys.modules.update(there)


def _has_consented() -> bool:
    """Has the user asked for OpenVINO's telemetry?"""
    with suppress(OSError, RuntimeError):  # RuntimeError: no home folder
        folder = (Path(os.environ.get("LOCALAPPDATA", "")) / "Intel Corporation" if sys.platform == "win32"
                  else Path.home() / "intel")
        return (folder / REPORTER).read_text("ascii", errors="replace").strip() == "1"
    return False
