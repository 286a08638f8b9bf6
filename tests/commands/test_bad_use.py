"""What a newcomer does wrong is answered in words, and leaves nothing behind."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

from tests.commands.test_cli import START, start
from tests.machine import PATIENCE, needs_dev_full

INTERRUPTED = """
import sys
class Interrupt:
    def find_spec(self, name, *_):
        if name == {!r}:
            raise KeyboardInterrupt
sys.meta_path.insert(0, Interrupt())
"""


# Interrupts and standard output.

@pytest.mark.parametrize("module", ["satexport.commands.group", "click", "satexport.commands.trt"])
def test_an_interrupt_while_the_command_line_is_still_imported_ends_it_as_later(module: str) -> None:
    process = start("models", before=INTERRUPTED.format(module))
    out, err = process.communicate(timeout=PATIENCE)
    assert (process.returncode, out) == (130, "")
    assert err.splitlines() == ["Interrupted; what was there before is untouched."]


@needs_dev_full
@pytest.mark.parametrize("unbuffered", ["", "1"])
@pytest.mark.parametrize("arguments", [["--help"], ["onnx", "--help"], ["--version"], ["models"],
                                       ["targets", "--json"]], ids=" ".join)
def test_a_full_standard_output_is_named_and_no_fault_of_ours(
        arguments: list[str], unbuffered: str) -> None:
    with open("/dev/full", "w", encoding="utf-8") as full:
        done = subprocess.run([sys.executable, "-c", START, *arguments], stdout=full, stderr=subprocess.PIPE,
                              encoding="utf-8", check=False, env=os.environ | {"PYTHONUNBUFFERED": unbuffered})
    assert done.returncode == 5
    assert done.stderr == ("Error: standard output takes nothing (No space left on device): what was to be "
                           "printed is lost. Make room there, or send it elsewhere.\n")

