"""What a test needs and not every machine has, each asked in one place: ask for the fixture, or call `need`, and
where it lacks the test is skipped by the name of what lacks. `SATEXPORT_TEST_WITHOUT=bf16,amx` has this machine
pass for one without it, to the product as well."""

from __future__ import annotations

import os
from collections.abc import Callable
from importlib import import_module
from pathlib import Path
from typing import Any

import pytest

PROC = Path("/proc/self")
PATIENCE = 600  # s that a process or thread may take; only one that hangs takes longer
WITHOUT = frozenset(filter(None, os.environ.get("SATEXPORT_TEST_WITHOUT", "").split(",")))
BF16_FLAGS = frozenset({"bf16", "amx"})  # either of them takes bf16 away


def need(package: str, extra: str) -> Any:
    """Import a package, or skip the test that asks for it."""
    return pytest.importorskip(package, reason=f"needs {package}: pip install 'satexport[{extra}]'")
