"""Run commands as a user does, in this process or in a separate one."""

from __future__ import annotations

import io
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple
from unittest.mock import patch

import pytest

from satexport.cli import main
from tests.machine import need_posix

START = "from satexport.cli import main; main()"


@dataclass(frozen=True)
class Result:
    """The exit code and output of a command."""

    code: int
    out: str
    err: str


class Made(NamedTuple):
    """An output folder in which a command created a bundle of the demo, and the command's output."""

    output: Path
    path: Path
    result: Result


def call(*arguments: object, stdin: bytes = b"") -> Result:
    """Run a command in this process, as the console script does."""
    out, err = io.BytesIO(), io.BytesIO()
    before = signal.getsignal(signal.SIGTERM)
    try:
        with patch.multiple(sys, argv=["satexport", *map(str, arguments)],
                            stdin=io.TextIOWrapper(io.BytesIO(stdin)),
                            stdout=io.TextIOWrapper(out, "utf-8", write_through=True),
                            stderr=io.TextIOWrapper(err, "utf-8", "backslashreplace", write_through=True)):
            with pytest.raises(SystemExit) as ended:
                main()
            texts = out.getvalue().decode(), err.getvalue().decode()
    finally:
        signal.signal(signal.SIGTERM, before)
    assert "Traceback" not in texts[1]
    return Result(int(ended.value.code or 0), *texts)


def start(*arguments: object, before: str = "", stdin: int | None = None) -> subprocess.Popen[str]:
    """Start a command in a separate process; `before` is Python code that runs before it."""
    return subprocess.Popen([sys.executable, "-c", f"{before}\n{START}", *map(str, arguments)],
                            encoding="utf-8", stdin=stdin, stdout=subprocess.PIPE, stderr=subprocess.PIPE)


@contextmanager
def no_file_longer_than(size: int) -> Iterator[None]:
    """Make writing stop in the middle of a file, as on a full disk."""
    resource = need_posix("resource")
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
