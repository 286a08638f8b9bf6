"""`make test-arm`, as far as it needs neither emulation nor downloads."""

from __future__ import annotations

import os
import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

import benchmarks.command
from satexport.errors import MissingError
from satexport.origin import read_cpu
from satexport.targets import find_target
from tests import ROOT
from tests.arm import __main__ as command
from tests.arm.device import find_emulator, select_locked
from tests.arm.emulation import CPUS, EmulatedCpu

LOCK = (ROOT / "requirements.lock").read_text("utf-8")
GOOD = command.Result(cpu="cortex-a76", what="a board", bundle="arm-linux", precision="int8", chunks=13,
                      from_pytorch=5e-3, from_here=2e-4, top1=1.0, verdict="passed",
                      origin={"cpu": "Cortex-A76, emulated by QEMU", "versions": {"numpy": "2.4.6"}})


def test_without_emulation_the_command_ends_with_3_and_names_the_package_before_any_download(
        tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setattr("sys.argv", ["tests.arm"])
    monkeypatch.setattr(command, "prepare", None)
    with pytest.raises(SystemExit) as end:
        benchmarks.command.run(command.main)
    err = capsys.readouterr().err
    assert end.value.code == 3
    assert err.startswith("Error: emulation of ARM is not installed: neither qemu-aarch64-static nor ")
    assert "sudo apt-get install qemu-user-static" in err


@pytest.mark.skipif(os.name != "posix", reason="needs a POSIX shell")
def test_a_system_without_apt_is_told_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    program = tmp_path / "qemu-aarch64"
    program.write_text("#!/bin/sh\n")
    program.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(MissingError, match=r"apt-get is not installed.*Run this on Debian"):
        find_emulator()


@pytest.mark.parametrize("cpu", CPUS, ids=lambda cpu: cpu.name)
def test_an_emulated_cpu_is_described_as_linux_does_and_has_a_target(
        cpu: EmulatedCpu, tmp_path: Path) -> None:
    (tmp_path / "proc").mkdir()
    (tmp_path / "proc" / "cpuinfo").write_text(cpu.cpuinfo, "utf-8")
    found = read_cpu(tmp_path, "aarch64")
    assert found.name == {"max": "core 0x051 of implementer 0x00"}.get(cpu.name, cpu.name.title())
    assert ("asimddp" in found.flags) == (cpu.name != "cortex-a72")
    assert ("i8mm" in found.flags) == (cpu.name == "max")
    assert find_target(cpu.target).machine == "aarch64"


def test_the_packages_of_a_device_are_locked_by_the_hashes_of_their_version() -> None:
    versions = re.findall(r"(?m)^numpy==([\d.]+)", LOCK)
    assert len(versions) > 1  # one for each range of Pythons
    text = select_locked(LOCK, {"numpy": versions[-1], "Markdown.It_py": "4.3.0"})
    assert re.findall(r"(?m)^\S+==\S+", text) == [f"numpy=={versions[-1]}", "Markdown.It_py==4.3.0"]
    assert ";" not in text
    entry = LOCK.partition(f"numpy=={versions[-1]}")[2].partition("\nonnx")[0]
    assert re.findall(r"sha256:\w+", text.partition("Markdown")[0]) == re.findall(r"sha256:\w+", entry)
    with pytest.raises(KeyError):
        select_locked(LOCK, {"numpy": "0.1"})


@pytest.mark.parametrize(("change", "words"), [
    ({"verdict": "failed"}, "the verdict is failed"),
    ({"top1": 12 / 13}, "PyTorch's in 92% of the chunks only"),
    ({"from_here": 6e-3}, "differ by 6.0e-03 from this CPU's, expected at most 0.005"),
    ({"from_here": 2e-5, "precision": "fp32"}, "expected at most 1e-05"),
    ({"from_here": float("nan")}, "differ by nan"),
    ({"origin": {"cpu": "Cortex-A76"}}, "does not say that it is emulated")])
def test_a_result_that_is_not_as_it_should_be_fails(change: dict[str, Any], words: str) -> None:
    assert list(command.find_faults(GOOD)) == []
    (fault,) = command.find_faults(replace(GOOD, **change))
    assert words in fault


def test_the_table_says_that_the_cpus_are_emulated_and_gives_no_times() -> None:
    text = command.table([GOOD])
    assert "CPU, emulated" in text
    assert "| int8      |      5.0e-03 |  2.0e-04 |   13 of 13 |" in text
    assert not re.search(r"\bms\b|second|speed", text)
