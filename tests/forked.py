"""Programs in new processes that have imported satexport already: each is a fork of a process that waits for
them. It has neither huggingface_hub, which reads its settings when it is imported, nor torch."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tests import ROOT
from tests.commands.calls import Result
from tests.machine import PATIENCE

WAIT = """
import gc, json, os, sys, traceback, warnings
import satexport.cli, satexport.commands.onnx, satexport.models.checkpoint, satexport.pipeline.export
import tests.models.tally.family
assert not {"huggingface_hub", "torch"} & set(sys.modules)
gc.freeze()

def fork():
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # Python 3.12: of threads, which no child uses
        return os.fork()

for line in sys.stdin:
    if child := fork():
        print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), flush=True)
        continue
    variables, code, sys.argv, files = json.loads(line)
    os.environ.clear()
    os.environ.update(variables)
    os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
    for number, file in enumerate(files, start=1):
        os.dup2(os.open(file, os.O_WRONLY | os.O_CREAT | os.O_TRUNC), number)
    ending = 0
    try:
        exec(code, {"__name__": "__main__"})
    except SystemExit as ended:
        ending = ended.code or 0
    except BaseException:
        traceback.print_exc()
        ending = 1
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(ending)  # an ordinary end would copy all memory of this process
"""


class Forks:
    """Runs programs, one after the other."""

    def __init__(self, process: subprocess.Popen[str], folder: Path) -> None:
        self._process, self._files = process, [folder / "out", folder / "err"]

    def run(self, code: str, *arguments: object) -> Result:
        """Run a Python program with these arguments, and the environment of this process."""
        assert self._process.stdin
        assert self._process.stdout
        self._process.stdin.write(json.dumps([
            dict(os.environ), code, ["-c", *map(str, arguments)], list(map(str, self._files))]) + "\n")
        self._process.stdin.flush()
        exit_code = int(self._process.stdout.readline())
        return Result(exit_code, *(file.read_text("utf-8") for file in self._files))


@contextmanager
def start_forks(folder: Path) -> Iterator[Forks]:
    """Start the process; its files go into a folder. The system must have os.fork."""
    with subprocess.Popen([sys.executable, "-W", "error", "-c", WAIT], cwd=ROOT, encoding="utf-8",
                          stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        yield Forks(process, folder)
        assert process.stdin
        process.stdin.close()
        assert process.wait(PATIENCE) == 0
