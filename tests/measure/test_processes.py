"""The measured processes end early, are killed or are interrupted."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from satexport.bundle.folder import open_bundle
from satexport.errors import RunError
from satexport.measure.turns import MeasureOptions, measure
from tests.bundle.copies import content
from tests.commands.calls import START, start
from tests.machine import PATIENCE, needs_memray, needs_proc
from tests.tiny import SAT

pytestmark = [needs_memray, pytest.mark.usefixtures("whole_turns")]


def test_a_process_that_ends_early_is_an_error(tiny: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "executable", shutil.which("false"))
    message = rf"{SAT}-2s/onnx: the measured process ended early \(exit code 1\)"
    with pytest.raises(RunError, match=message) as caught:
        measure([open_bundle(tiny)], MeasureOptions(eager=False))
    assert caught.value.exit_code == 5


def workers_of(parent: int) -> list[int]:
    """Return the processes that a `satexport measure` has started."""
    workers = []
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            command = (folder / "cmdline").read_bytes()
            parent_of_process = int((folder / "stat").read_text().rpartition(")")[2].split()[1])
        except OSError:  # the process has just ended
            continue
        if parent_of_process == parent and b"satexport.measure.worker" in command:
            workers.append(int(folder.name))
    return workers


def wait_for_worker(process: subprocess.Popen[str], library: str) -> list[int]:
    """Wait until a process has a worker that has loaded a library; returns its workers."""
    while process.poll() is None:
        workers = workers_of(process.pid)
        for worker in workers:
            if library in Path(f"/proc/{worker}/maps").read_text():
                return workers
        time.sleep(0.001)
    pytest.fail(f"it ended with {process.returncode}: {process.communicate()}")


@needs_proc
def test_a_process_that_is_killed_ends_the_command_with_5(bundle: Path) -> None:
    process = start("measure", bundle, "--no-eager", "--steps", 2, "--pause", 60)
    (worker,) = wait_for_worker(process, "onnxruntime")
    os.kill(worker, signal.SIGKILL)
    out, err = process.communicate(timeout=PATIENCE)
    assert (process.returncode, out) == (5, "")
    assert f"{SAT}-2s/onnx: the measured process ended early (exit code -9). It may have run out of" in err
    assert "Traceback" not in err
    assert not (bundle / "reports" / "measure.json").exists()


def test_a_worker_whose_parent_is_gone_ends_without_a_word() -> None:
    worker = subprocess.Popen([sys.executable, "-m", "satexport.measure.worker"], encoding="utf-8",
                              stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    assert worker.stdout
    worker.stdout.close()
    assert worker.communicate('{"do": "load"}\n' * 2, timeout=PATIENCE)[1] == ""
    assert worker.returncode == 0


@needs_proc
@pytest.mark.parametrize("to", ["the command", "its process group"])
@pytest.mark.parametrize("moment", ["while a worker imports", "in a pause"])
def test_an_interrupt_ends_with_130_and_leaves_no_process_and_no_report(
        to: str, moment: str, bundle: Path) -> None:
    before = content(bundle)
    program = f"import signal; signal.signal(signal.SIGINT, signal.default_int_handler)\n{START}"
    process = subprocess.Popen(
        [sys.executable, "-c", program, "measure", bundle, "--no-eager", "--steps", "2", "--pause", "60"],
        encoding="utf-8", stdout=subprocess.PIPE, stderr=subprocess.PIPE, start_new_session=True)
    if moment == "in a pause":
        workers = wait_for_worker(process, "onnxruntime")
        time.sleep(0.5)
    else:
        workers = wait_for_worker(process, "_multiarray_umath")  # of numpy, which is imported first
    (os.kill if to == "the command" else os.killpg)(process.pid, signal.SIGINT)
    out, err = process.communicate(timeout=PATIENCE)
    assert (process.returncode, out) == (130, "")
    assert err.strip() == "Interrupted; no file was left incomplete."
    assert workers
    assert not [worker for worker in workers if Path(f"/proc/{worker}").exists()]
    assert content(bundle) == before
