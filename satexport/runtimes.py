"""Import a runtime with its telemetry off: no files in the user's home folder, no network access.

ONNX Runtime (1.31) and OpenVINO (2026.4) send usage data to their vendors by default, and huggingface_hub
(2.4) downloads and stores a list of coding agents to report whether one runs it. A device with a microphone
must not contact anyone without its owner's consent, so satexport imports these packages only through this
module. `import satexport` changes nothing. An explicit choice of the user is respected: a nonempty
`ORT_DISABLE_TELEMETRY` or `HF_HUB_DISABLE_TELEMETRY`, and OpenVINO's consent file with the content "1", as
written by its `opt_in_out --opt_in`.
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

SWITCH = "ORT_DISABLE_TELEMETRY"  # ONNX Runtime, which others import, reads it when its library is loaded
SWITCHES = {"huggingface_hub": "HF_HUB_DISABLE_TELEMETRY"}  # of packages that have another variable
REPORTER = "openvino_telemetry"   # the package that sends OpenVINO's data; without it, OpenVINO uses a stub
_LOCK = RLock()                   # lets only one thread at a time change `sys.modules`


def import_runtime(name: str) -> Any:
    """Import and return a module of a runtime, such as "onnxruntime" or "openvino.passes". Raises
    `ImportError` if it is not installed. A runtime that the process has already imported is not changed."""
    if name in sys.modules:
        return importlib.import_module(name)
    switch = SWITCHES.get(name.partition(".")[0], SWITCH)
    if not os.environ.get(switch):
        os.environ[switch] = "1"
    with _LOCK, _hide_package(REPORTER, unless=_has_consented()):
        return importlib.import_module(name)


def check_version(package: str, installed: str, minimum: tuple[int, int], extra: str) -> None:
    """Raise `MissingError` if a runtime is older than `minimum`. Call it before the runtime loads anything,
    because an old version may crash the process."""
    if tuple(int(part) for part in re.findall(r"\d+", installed)[:2]) < minimum:
        raise MissingError(f"{package} {installed} is installed, expected {'.'.join(map(str, minimum))} or "
                           f"newer: pip install 'satexport[{extra}]'.")


@contextmanager
def _hide_package(package: str, unless: bool) -> Iterator[None]:
    """Make imports of a package fail inside the block, by a None in `sys.modules`."""
    if unless:
        yield
        return
    loaded = {key: module for key, module in sys.modules.items() if key.partition(".")[0] == package}
    sys.modules[package] = None  # type: ignore[assignment]
    try:
        yield
    finally:
        del sys.modules[package]
        sys.modules.update(loaded)


def _has_consented() -> bool:
    """Whether the user has enabled OpenVINO's telemetry."""
    with suppress(OSError, RuntimeError):  # RuntimeError: no home folder
        folder = (Path(os.environ.get("LOCALAPPDATA", "")) / "Intel Corporation" if sys.platform == "win32"
                  else Path.home() / "intel")
        return (folder / REPORTER).read_text("ascii", errors="replace").strip() == "1"
    return False
