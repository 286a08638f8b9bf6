"""Where results come from: how the CPU is read from /proc.

The texts have the form that Linux gives them on these boards, shortened to the cores that differ. RK3588,
Dimensity and Snapdragon follow issues 18, 190 and 174 of hrw/arm-socs-table.
"""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from satexport.origin import CPU_FLAGS, DOT_PRODUCTS, origin, read_cpu

# Raspberry Pi OS, 64-bit
PI_4 = """processor\t: 0
BogoMIPS\t: 108.00
Features\t: fp asimd evtstrm crc32 cpuid
CPU implementer\t: 0x41
CPU architecture: 8
CPU variant\t: 0x0
CPU part\t: 0xd08
CPU revision\t: 3

processor\t: 1
BogoMIPS\t: 108.00
Features\t: fp asimd evtstrm crc32 cpuid
CPU implementer\t: 0x41
CPU architecture: 8
CPU variant\t: 0x0
CPU part\t: 0xd08
CPU revision\t: 3

Revision\t: c03114
Serial\t\t: 1000000000000000
Model\t\t: Raspberry Pi 4 Model B Rev 1.4
"""
PI_5 = """processor\t: 0
BogoMIPS\t: 108.00
Features\t: fp asimd evtstrm aes pmull sha1 sha2 crc32 atomics fphp asimdhp cpuid asimdrdm lrcpc dcpop asimddp
CPU implementer\t: 0x41
CPU architecture: 8
CPU variant\t: 0x4
CPU part\t: 0xd0b
CPU revision\t: 1

Revision\t: d04170
Serial\t\t: 1000000000000000
Model\t\t: Raspberry Pi 5 Model B Rev 1.0
"""
RK3588 = """processor       : 0
BogoMIPS        : 48.00
Features        : fp asimd evtstrm aes pmull sha1 sha2 crc32 atomics fphp asimdhp cpuid asimddp
CPU implementer : 0x41
CPU architecture: 8
CPU variant     : 0x2
CPU part        : 0xd05
CPU revision    : 0

processor       : 4
BogoMIPS        : 48.00
Features        : fp asimd evtstrm aes pmull sha1 sha2 crc32 atomics fphp asimdhp cpuid asimddp
CPU implementer : 0x41
CPU architecture: 8
CPU variant     : 0x4
CPU part        : 0xd0b
CPU revision    : 0
"""
DIMENSITY_8500 = """processor : 0
BogoMIPS : 26.00
Features : fp asimd evtstrm aes crc32 fphp asimdhp cpuid asimddp sha512 sve sve2 svei8mm svebf16 i8mm bf16
CPU implementer : 0x41
CPU architecture: 8
CPU variant : 0x0
CPU part : 0xd87
CPU revision : 1
"""
SNAPDRAGON_685 = """processor : 0
BogoMIPS : 38.40
Features : fp asimd evtstrm aes pmull sha1 sha2 crc32 cpuid
CPU implementer : 0x51
CPU architecture: 8
CPU variant : 0xa
CPU part : 0x801
CPU revision : 4
"""
EPYC = """processor\t: 0
vendor_id\t: AuthenticAMD
cpu family\t: 25
model\t\t: 17
model name\t: AMD EPYC 9B14
flags\t\t: fpu sse2 fma avx avx2 avx512f avx512_bf16 avx512_vnni
"""


def machine_with(folder: Path, cpuinfo: str, board: str = "", comm: str = "python3") -> Path:
    """A folder whose `proc` describes a machine."""
    for name, text in (("cpuinfo", cpuinfo), ("device-tree/model", board), ("self/comm", f"{comm}\n")):
        if text:
            path = folder / "proc" / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text, encoding="utf-8")
    return folder


@pytest.mark.parametrize(("cpuinfo", "name", "flags"), [
    (PI_4, "Raspberry Pi 4 Model B Rev 1.4 (Cortex-A72)", ["asimd"]),
    (PI_5, "Raspberry Pi 5 Model B Rev 1.0 (Cortex-A76)", ["asimd", "asimddp"]),
    (RK3588, "Cortex-A55, Cortex-A76", ["asimd", "asimddp"]),
    (DIMENSITY_8500, "Cortex-A725", ["asimd", "asimddp", "i8mm", "bf16", "sve"]),
    (SNAPDRAGON_685, "core 0x801 of implementer 0x51", ["asimd"]),
], ids=["Raspberry Pi 4", "Raspberry Pi 5", "RK3588", "Dimensity 8500", "Snapdragon 685"])
def test_an_arm_cpu_has_the_name_of_its_board_and_cores_and_its_features(
        cpuinfo: str, name: str, flags: list[str], tmp_path: Path) -> None:
    cpu = read_cpu(machine_with(tmp_path, cpuinfo), "aarch64")
    assert (cpu.name, cpu.flags, cpu.is_emulated) == (name, flags, False)


def test_the_board_is_named_by_the_device_tree_whose_text_ends_with_nul(tmp_path: Path) -> None:
    cpu = read_cpu(machine_with(tmp_path, RK3588, "Radxa ROCK 5B\0"), "aarch64")
    assert cpu.name == "Radxa ROCK 5B (Cortex-A55, Cortex-A76)"


def test_an_x86_cpu_has_its_model_name(tmp_path: Path) -> None:
    cpu = read_cpu(machine_with(tmp_path, EPYC), "x86_64")
    assert (cpu.name, cpu.is_emulated) == ("AMD EPYC 9B14", False)
    assert cpu.flags == ["avx2", "fma", "avx512f", "avx512_vnni", "avx512_bf16"]


@pytest.mark.parametrize(("flags", "saturates"), [
    ("ssse3 avx2", True), ("ssse3 avx2 avx512f", True), ("ssse3", True),
    ("ssse3 avx2 avx512f avx512_vnni", False), ("ssse3 avx2 avx_vnni", False), ("sse2", False)])
def test_an_x86_cpu_without_dot_products_saturates_and_others_do_not(
        flags: str, saturates: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("satexport.origin.DOT_PRODUCTS", DOT_PRODUCTS)  # whatever the tests leave out
    machine = machine_with(tmp_path, f"model name\t: a CPU\nflags\t\t: {flags}\n")
    assert read_cpu(machine, "x86_64").saturates == saturates
    assert not read_cpu(machine, "aarch64").saturates  # the host of an emulator


@pytest.mark.parametrize("cpuinfo", [PI_4, PI_5], ids=["Raspberry Pi 4", "Raspberry Pi 5"])
def test_no_arm_cpu_saturates(cpuinfo: str, tmp_path: Path) -> None:
    assert not read_cpu(machine_with(tmp_path, cpuinfo), "aarch64").saturates


def test_an_emulated_cpu_is_named_as_such(tmp_path: Path) -> None:
    cpu = read_cpu(machine_with(tmp_path, PI_5, comm="qemu-aarch64-st"), "aarch64")
    assert cpu.is_emulated
    assert cpu.name == "Raspberry Pi 5 Model B Rev 1.0 (Cortex-A76), emulated by QEMU"


@pytest.mark.parametrize(("cpuinfo", "modalias"), [
    (EPYC, ""), (PI_5, "cpu:type:x86,ven0002fam0019mod0011:feature:,0000,0001\n")],
    ids=["cpuinfo of the host", "cpuinfo of QEMU"])
def test_an_emulator_that_the_system_starts_by_itself_is_recognised(
        cpuinfo: str, modalias: str, tmp_path: Path) -> None:
    """As in a container for ARM on an x86 machine, where the process has the name of its program."""
    file = machine_with(tmp_path, cpuinfo) / "sys" / "devices" / "system" / "cpu" / "modalias"
    file.parent.mkdir(parents=True)
    file.write_text(modalias, encoding="utf-8")
    assert read_cpu(tmp_path, "aarch64").is_emulated
    file.write_text("cpu:type:aarch64:feature:,0000,0001\n", encoding="utf-8")
    assert read_cpu(tmp_path, "aarch64").is_emulated == (cpuinfo == EPYC)
    assert not read_cpu(machine_with(tmp_path, EPYC), "x86_64").is_emulated


def test_the_host_of_an_emulator_is_not_taken_for_the_cpu(
        tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As in a container for ARM on an x86 machine, where /proc/cpuinfo is the host's."""
    monkeypatch.setattr("platform.processor", lambda: "")
    cpu = read_cpu(machine_with(tmp_path, EPYC, comm="qemu-aarch64"), "aarch64")
    assert (cpu.name, cpu.flags) == ("aarch64, emulated by QEMU", [])


def test_without_proc_the_cpu_has_the_name_that_python_knows(
        tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("platform.processor", lambda: "arm")
    cpu = read_cpu(tmp_path, "arm64")
    assert (cpu.name, cpu.flags, cpu.is_emulated) == ("arm", [], False)


def test_the_origin_of_a_result_has_the_cpu_of_this_machine() -> None:
    cpu, found = read_cpu(), origin()
    assert (found["cpu"], found["cpu_flags"]) == (cpu.name, cpu.flags)
    assert cpu.name
    assert set(cpu.flags) <= set(CPU_FLAGS)
    assert found["cpu_cores"] <= (os.cpu_count() or 1)
