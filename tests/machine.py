"""Requirements of tests that not every machine meets. A test declares them through this module or a fixture
of `conftest.py`, and is skipped with a reason that names what is missing.

`SATEXPORT_TEST_WITHOUT=bf16,amx,vnni` makes tests and satexport treat this machine as one without these
features.

On an x86 CPU without dot-product instructions (VNNI), 8-bit products saturate under OpenVINO, and under a
bare session of ONNX Runtime (docs/int8.md). A test whose subject is another one takes the target that
`on_this_cpu` names, or weights of `weight_bits()`; one whose subject they are calls `need_dot_products`.
"""

from __future__ import annotations

import os
import sys
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest

from satexport.backends.openvino import step as backend
from satexport.origin import read_cpu

PATIENCE = 600  # s that a process or a thread may take; only one that hangs takes longer
WITHOUT = frozenset(filter(None, os.environ.get("SATEXPORT_TEST_WITHOUT", "").split(",")))
FEATURES = "bf16", "amx", "vnni"
assert set(FEATURES) >= WITHOUT, f"SATEXPORT_TEST_WITHOUT={','.join(WITHOUT)}: expected some of {FEATURES}"

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


def on_this_cpu(target: str) -> str:
    """The name of the shipped target whose int8 products do not saturate on this CPU: `target` itself, or the
    one for CPUs without dot products."""
    return f"{target}-avx2" if target == "openvino-int8" and read_cpu().saturates else target


def weight_bits() -> int:
    """Bits of weights whose products no runtime saturates on this CPU."""
    return 7 if read_cpu().saturates else 8


def need_dot_products() -> None:
    """Skip if 8-bit products saturate on this CPU."""
    if read_cpu().saturates:
        pytest.skip("needs a CPU with dot-product instructions (VNNI): here sums of 8-bit products saturate")


def need_posix(module: str) -> Any:
    """Import a module that Python has only on POSIX systems, or skip."""
    return pytest.importorskip(module, reason=f"needs {module}, which POSIX systems have")
