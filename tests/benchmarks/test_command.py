"""Commands of benchmarks: a wrong option is an error of one line before any work; each way to end has a
code."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Callable

import pytest

from benchmarks import command, fleet, growth, shares, tables
from benchmarks.peers import __main__ as peers
from satexport.errors import DataError
from tests import ROOT
from tests.machine import needs_dev_full

MAINS = {"peers": peers.main, "growth": growth.main, "fleet": fleet.main, "shares": shares.main,
         "tables": tables.main}
WRONG = (
    ("peers --threads 0", "0 is not a whole number from 1 to 256"),
    ("peers --threads 1 x", "x is not a whole number"),
    ("peers --steps 0", "0 is not a whole number from 2 to 10000"),
    ("peers --bursts 11", "11 is not a whole number from 1 to 10"),
    ("peers --esc10 /nonexistent", "/nonexistent is not a folder"),
    ("growth --streams 1", "1 is not a whole number from 2"),
    ("growth --streams 8 -1", "-1 is not a whole number from 2"),
    ("growth --models sat-q", "unknown model 'sat-q'"),
    ("shares /nonexistent", "/nonexistent is not a folder"),
    ("shares . --steps 9", "9 is not a whole number from 10 to 10000"),
    ("fleet /nonexistent", "/nonexistent is not a folder"),
    ("tables a.json b.json", "unrecognized arguments: b.json"),
)


@pytest.mark.parametrize(("words", "found"), WRONG, ids=[words for words, _ in WRONG])
def test_a_wrong_option_is_an_error_of_one_line_with_2(
        words: str, found: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr(sys, "argv", words.split())
    with pytest.raises(SystemExit, match="2"):
        MAINS[words.split(maxsplit=1)[0]]()
    out, err = capsys.readouterr()
    assert (out, err.count("\n")) == ("", 1)
    assert found in err


def make_main(error: BaseException | None) -> Callable[[], None]:
    def main() -> None:
        if error:
            raise error
    return main


@pytest.mark.parametrize(("error", "code", "text"), [
    (None, 0, ""), (KeyboardInterrupt(), 130, "Interrupted"), (DataError("no cases"), 4, "Error: no cases")])
def test_a_command_ends_with_a_code_and_one_line(
        error: BaseException | None, code: int, text: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        command.run(make_main(error))
    assert ended.value.code == code
    err = capsys.readouterr().err
    assert (err.startswith(text), err.count("\n")) == (True, int(error is not None))


SPEAKS = """
import sys
from benchmarks import command
command.run(lambda: print("one line" * int(sys.argv[1])))
"""


@pytest.mark.parametrize("length", [1, 100_000])  # written at the end, and at once
@pytest.mark.parametrize(("output", "text"), [
    pytest.param("/dev/full", r"cannot write to standard output \(No space left", marks=needs_dev_full),
    ("pipe", "the reader of standard output has closed it")])
def test_an_output_that_cannot_be_written_is_an_error_of_one_line_with_5(
        output: str, text: str, length: int) -> None:
    if output == "pipe":
        reader, writer = os.pipe()
        os.close(reader)
    else:
        writer = os.open(output, os.O_WRONLY)
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONUNBUFFERED"}
    done = subprocess.run([sys.executable, "-c", SPEAKS, str(length)], stdout=writer, stderr=subprocess.PIPE,
                          cwd=ROOT, env=environment, text=True, check=False)
    os.close(writer)
    assert (done.returncode, done.stderr.count("\n")) == (5, 1), done.stderr
    assert re.match(f"Error: {text}", done.stderr)
