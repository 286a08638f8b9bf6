"""Where a result comes from: versions, CPU, system."""

from __future__ import annotations

import os
import platform
from importlib import metadata
from pathlib import Path
from typing import Any

from satexport.version import __version__

PACKAGES = ("numpy", "torch", "onnx", "onnxsim", "onnxruntime", "openvino", "scikit-learn", "soundfile",
            "soxr", "memray")
CPU_FLAGS = ("avx2", "fma", "avx512f", "avx512_vnni", "avx_vnni", "avx512_bf16", "amx_int8", "amx_bf16",
             "asimd", "asimddp", "i8mm", "bf16", "sve")  # features that determine the kernels of a runtime


def origin() -> dict[str, Any]:
    """The environment of a result: versions of installed packages, CPU, system."""
    versions = {"satexport": __version__, "python": platform.python_version()}
    versions |= {name: version for name in PACKAGES if (version := _version(name))}
    return {"versions": versions, "cpu": _cpu("model name", "Model"), "cpu_cores": cores(),
            "cpu_flags": [flag for flag in CPU_FLAGS if flag in _cpu("flags", "Features").split()],
            "system": f"{platform.system()} {platform.machine()}"}


def cores() -> int:
    """Number of CPU cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _version(package: str) -> str | None:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return None


def _cpu(*keys: str) -> str:
    """The first entry of /proc/cpuinfo with one of these keys, which differ between x86 and ARM."""
    try:
        lines = Path("/proc/cpuinfo").read_text("utf-8").splitlines()
    except OSError:
        lines = []
    values = [line.split(":", 1)[1].strip() for line in lines if line.startswith(keys)]
    return values[0] if values else platform.processor() or platform.machine()
