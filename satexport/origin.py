"""Where a result comes from: versions, CPU, system."""

from __future__ import annotations

import hashlib
import os
import platform
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from satexport.files import PACKAGE_FOLDER
from satexport.version import __version__

PACKAGES = ("numpy", "torch", "onnx", "onnxsim", "onnxruntime", "openvino", "scikit-learn", "soundfile",
            "soxr", "memray", "playwright")
CPU_FLAGS = ("avx2", "fma", "avx512f", "avx512_vnni", "avx_vnni", "avx512_bf16", "amx_int8", "amx_bf16",
             "asimd", "asimddp", "i8mm", "bf16", "sve")  # features that determine the kernels of a runtime
DOT_PRODUCTS = frozenset({"avx512_vnni", "avx_vnni", "amx_int8", "asimddp", "i8mm"})  # any of them sums
# products of 8-bit values in 32 bits
PAIRS = "ssse3"  # the instruction set of vpmaddubsw, which sums two products in 16 bits
ARM = "0x41"  # CPU implementer
ARM_CORES = {  # names of its parts, from the identification register (MIDR) in each core's reference manual
    "0xd03": "Cortex-A53", "0xd04": "Cortex-A35", "0xd05": "Cortex-A55", "0xd07": "Cortex-A57",
    "0xd08": "Cortex-A72", "0xd09": "Cortex-A73", "0xd0a": "Cortex-A75", "0xd0b": "Cortex-A76",
    "0xd0c": "Neoverse-N1", "0xd0d": "Cortex-A77", "0xd40": "Neoverse-V1", "0xd41": "Cortex-A78",
    "0xd42": "Cortex-A78AE", "0xd44": "Cortex-X1", "0xd46": "Cortex-A510", "0xd47": "Cortex-A710",
    "0xd48": "Cortex-X2", "0xd49": "Neoverse-N2", "0xd4b": "Cortex-A78C", "0xd4d": "Cortex-A715",
    "0xd4e": "Cortex-X3", "0xd4f": "Neoverse-V2", "0xd80": "Cortex-A520", "0xd81": "Cortex-A720",
    "0xd82": "Cortex-X4", "0xd83": "Neoverse-V3AE", "0xd84": "Neoverse-V3", "0xd85": "Cortex-X925",
    "0xd87": "Cortex-A725"}


@dataclass(frozen=True)
class Cpu:
    """The CPU that runs this process."""

    name: str           # "AMD EPYC"; on ARM board and kinds of cores: "Raspberry Pi 5 Model B (Cortex-A76)"
    flags: list[str]    # those of CPU_FLAGS that it has
    is_emulated: bool   # by QEMU, one process at a time; a whole emulated machine is not recognised
    saturates: bool = False  # whether runtimes sum products of 8-bit values in pairs to 16 bits, which may
                             # saturate: an x86 CPU without dot-product instructions. Known only on Linux


def origin() -> dict[str, Any]:
    """The environment of a result: versions of installed packages, CPU, system. If the CPU is emulated, its
    name says so."""
    versions = {"satexport": __version__, "python": platform.python_version()}
    versions |= {name: version for name in PACKAGES if (version := _version(name))}
    cpu = read_cpu()
    return {"versions": versions, "cpu": cpu.name, "cpu_cores": cores(), "cpu_flags": cpu.flags,
            "system": f"{platform.system()} {platform.machine()}"}


def cores() -> int:
    """Number of CPU cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def read_cpu(root: Path = Path("/"), machine: str = platform.machine()) -> Cpu:
    """Return the CPU that Linux describes in `root`/proc; on other systems only its name.

    Only fields of `machine`, the architecture that this process was compiled for, are read: an emulator may
    show it the /proc/cpuinfo of a host of another architecture."""
    fields = _read_cpuinfo(root)
    is_arm = machine.lower().startswith(("aarch64", "arm"))
    name = _arm_name(fields, root) if is_arm else "".join(fields.get("model name", [])[:1])
    is_emulated = (_read(root / "proc" / "self" / "comm").startswith("qemu-")  # but not under binfmt_misc
                   or (is_arm and _is_on_x86(root, fields)))
    present = "".join(fields.get("Features" if is_arm else "flags", [])[:1]).split()
    return Cpu((name or platform.processor() or machine) + (", emulated by QEMU" if is_emulated else ""),
               [flag for flag in CPU_FLAGS if flag in present], is_emulated,
               saturates=not is_arm and PAIRS in present and DOT_PRODUCTS.isdisjoint(present))


def _is_on_x86(root: Path, fields: dict[str, list[str]]) -> bool:
    """Return whether the kernel that serves an ARM process is one for x86. Linux on ARM names the implementer
    of each core. Newer QEMU shows such a /proc/cpuinfo of its own, but /sys is always the kernel's."""
    modalias = _read(root / "sys" / "devices" / "system" / "cpu" / "modalias")
    return modalias.startswith("cpu:type:x86") or "vendor_id" in fields


def _arm_name(fields: dict[str, list[str]], root: Path) -> str:
    """Return the board and its kinds of cores, each if known."""
    parts = zip(fields.get("CPU implementer", []), fields.get("CPU part", []), strict=False)
    kinds = ", ".join(dict.fromkeys(
        ARM_CORES.get(part if implementer == ARM else "", f"core {part} of implementer {implementer}")
        for implementer, part in parts))
    board = (_read(root / "proc" / "device-tree" / "model").strip("\0 \n")
             or "".join(fields.get("Model", [])[:1]))  # a container may not read the former
    return f"{board} ({kinds})" if board and kinds else board or kinds


def _read_cpuinfo(root: Path) -> dict[str, list[str]]:
    """Return the values of each field of /proc/cpuinfo, one per core; {} if there is no such file."""
    fields: dict[str, list[str]] = {}
    for line in _read(root / "proc" / "cpuinfo").splitlines():
        key, _, value = line.partition(":")
        fields.setdefault(key.strip(), []).append(value.strip())
    return fields


def _read(path: Path) -> str:
    try:
        return path.read_text("utf-8", errors="replace")
    except OSError:
        return ""


def _version(package: str) -> str | None:
    from importlib import metadata  # slow to import, and loading a bundle needs none

    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return None


@cache
def sources_sha256() -> str:
    """SHA-256 of the Python sources of this package: two installations with the same one compute the same."""
    digest = hashlib.sha256()
    for file in sorted(PACKAGE_FOLDER.rglob("*.py")):
        digest.update(f"{file.relative_to(PACKAGE_FOLDER).as_posix()}\0".encode())
        digest.update(file.read_bytes() + b"\0")
    return digest.hexdigest()
