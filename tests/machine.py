"""Requirements of tests that not every machine meets. A test declares them through this module or a fixture
of `conftest.py`, and is skipped with a reason that names what is missing.

`SATEXPORT_TEST_WITHOUT=bf16,amx` makes tests and satexport treat this machine as one without these features.
"""

from __future__ import annotations

import os
import sys
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest

from satexport.backends.openvino import step as backend

PATIENCE = 600  # s that a process or a thread may take; only one that hangs takes longer
WITHOUT = frozenset(filter(None, os.environ.get("SATEXPORT_TEST_WITHOUT", "").split(",")))
assert {"bf16", "amx"} >= WITHOUT, f"SATEXPORT_TEST_WITHOUT={','.join(WITHOUT)}: expected bf16, amx or both"

needs_proc = pytest.mark.skipif(not Path("/proc/self/maps").exists(), reason="needs /proc, which Linux has")
needs_dev_full = pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs /dev/full, which Linux has")
needs_memray = pytest.mark.skipif(not find_spec("memray"), reason="needs memray, which Windows does not have")
needs_utf8_names = pytest.mark.skipif(sys.getfilesystemencoding() != "utf-8",
                                      reason="needs a locale whose file names are UTF-8")


def need(package: str, extra: str) -> Any:
    """Import a package, or skip the test, fixture or test module that needs it."""
    return pytest.importorskip(package, reason=f"needs {package}: pip install 'satexport[{extra}]'")


def has_bf16() -> bool:
    """Whether OpenVINO computes in bf16 on this CPU: natively, or by AMX."""
    return backend.has_bf16(need("openvino", "openvino").Core(), "CPU")


def need_posix(module: str) -> Any:
    """Import a module that Python has only on POSIX systems, or skip."""
    return pytest.importorskip(module, reason=f"needs {module}, which POSIX systems have")
