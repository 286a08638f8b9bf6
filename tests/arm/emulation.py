"""Runs satexport as on an ARM device, each process in QEMU's user-mode emulation of a CPU."""

from __future__ import annotations

import os
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from satexport.errors import RunError
from tests.arm.device import Device

CORES = 4
V8 = "fp asimd evtstrm aes pmull sha1 sha2 crc32 cpuid"  # of ARMv8.0, with the cryptographic extension
V8_2 = f"{V8} atomics fphp asimdhp asimdrdm lrcpc dcpop asimddp"
NEWER = f"{V8_2} jscvt fcma sha3 sha512 asimdfhm dit uscat ilrcpc flagm sb sve i8mm bf16"


@dataclass(frozen=True, kw_only=True)
class EmulatedCpu:
    """A CPU that QEMU emulates, and how Linux describes it in /proc/cpuinfo."""

    name: str         # of QEMU's -cpu
    what: str         # which device it stands for, and what its int8 products run on
    target: str       # of the int8 bundle that is tried on it
    implementer: str
    part: str
    features: str

    @property
    def cpuinfo(self) -> str:
        """The content of /proc/cpuinfo. ONNX Runtime reads it, and crashes if it describes the x86 host."""
        return "".join(
            f"processor\t: {core}\nBogoMIPS\t: 108.00\nFeatures\t: {self.features}\n"
            f"CPU implementer\t: {self.implementer}\nCPU architecture: 8\nCPU variant\t: 0x0\n"
            f"CPU part\t: {self.part}\nCPU revision\t: 3\n\n" for core in range(CORES))


CPUS = (
    EmulatedCpu(name="cortex-a72", what="Raspberry Pi 4; no dot product", target="raspberry-pi-4",
                implementer="0x41", part="0xd08", features=V8),
    EmulatedCpu(name="cortex-a76", what="Raspberry Pi 5; dot product", target="raspberry-pi-5",
                implementer="0x41", part="0xd0b", features=V8_2),
    EmulatedCpu(name="max", what="all that QEMU has: i8mm, bf16, SVE", target="arm-linux",
                implementer="0x00", part="0x051", features=NEWER),
)


@dataclass(frozen=True)
class Emulation:
    """A device whose CPU is emulated."""

    emulator: str  # QEMU's program
    device: Device

    def satexport(self, cpu: EmulatedCpu, *arguments: object, audio: bytes = b"") -> str:
        """Run the command line with `audio` as standard input and return what it prints. Raises `RunError` if
        it ends with another exit code than 0."""
        with self._root(cpu) as root:
            home, packages = root / "usr", os.pathsep.join(map(str, (self.device.packages,
                                                                     self.device.satexport)))
            command = [self.emulator, "-cpu", cpu.name, "-L", str(root), "-E", f"PYTHONHOME={home}",
                       "-E", f"PYTHONPATH={packages}", str(home / "bin" / "python3"), "-m", "satexport",
                       *map(str, arguments)]
            done = subprocess.run(command, input=audio, capture_output=True, check=False, env={
                "PATH": os.defpath, "HOME": str(root), "LC_ALL": "C.UTF-8", "PYTHONDONTWRITEBYTECODE": "1"})
        if done.returncode:
            raise RunError(f"satexport on an emulated {cpu.name} ended with exit code {done.returncode}.",
                           *done.stderr.decode("utf-8", "replace").splitlines()[-10:])
        return done.stdout.decode("utf-8")

    @contextmanager
    def _root(self, cpu: EmulatedCpu) -> Iterator[Path]:
        """The folder in which QEMU looks first for every file that a program opens: the device's system, and
        the description of the CPU."""
        with tempfile.TemporaryDirectory() as folder:
            root = Path(folder)
            for entry in self.device.system.iterdir():
                if entry.name != "proc":
                    (root / entry.name).symlink_to(entry)
            (root / "proc").mkdir()
            (root / "proc" / "cpuinfo").write_text(cpu.cpuinfo, "utf-8")
            yield root
