"""Start, command and end a process that is measured, from the process that measures it."""

from __future__ import annotations

import json
import subprocess
import sys
from contextlib import suppress
from types import TracebackType
from typing import Any

from satexport import errors
from satexport.errors import RunError
from satexport.origin import read_cpu

GRACE, GRACE_AFTER_ERROR = 5.0, 0.5  # s, to end by itself


class Process:
    """A context manager that starts a `satexport.measure.worker`, or another `module` that serves commands as
    it does, under this Python or another; sends it commands, and ends it. Raises `RunError` if it cannot be
    started."""

    def __init__(self, name: str, module: str = "satexport.measure.worker",
                 python: str | None = None) -> None:
        self.name, python = name, python or sys.executable
        try:
            self._process = subprocess.Popen(  # noqa: S603
                [python, "-m", module], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
                start_new_session=True)  # Ctrl-C reaches only the parent
        except OSError as error:
            advice = ("Measure on the device instead of in an emulator." if read_cpu().is_emulated
                      else "Check that this Python can be run, and end other programs if memory is short.")
            raise RunError(f"{name}: the process that is measured cannot be started ({error.strerror}: "
                           f"{python}). {advice}") from None

    def __enter__(self) -> Process:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None,
                 trace: TracebackType | None) -> None:
        """End the process: by the end of its input, so that it ends what it has started, such as a browser;
        if that takes longer than GRACE, by force."""
        assert self._process.stdin
        with suppress(BrokenPipeError):
            self._process.stdin.close()
        with suppress(subprocess.TimeoutExpired):
            self._process.wait(GRACE if kind is None else GRACE_AFTER_ERROR)
        self._process.kill()
        self._process.wait()
        assert self._process.stdout
        self._process.stdout.close()

    def ask(self, do: str, **arguments: Any) -> Any:
        """Call the method `do` of its `Worker` and return the reply; blocks until it comes. Raises the error
        that the worker raised, or `RunError` if the process died."""
        self.begin(do, **arguments)
        return self.reply()

    def begin(self, do: str, **arguments: Any) -> None:
        """Call the method and do not wait; `reply` must be called next."""
        assert self._process.stdin
        with suppress(BrokenPipeError):  # `reply` raises the error
            print(json.dumps({"do": do, **arguments}), file=self._process.stdin, flush=True)

    def reply(self) -> Any:
        """Wait for the reply to the last command, and return it or raise its error as `ask` does."""
        assert self._process.stdout
        line = self._process.stdout.readline()
        if not line:
            raise RunError(f"{self.name}: the measured process ended early (exit code "
                           f"{self._process.wait()}). It may have run out of memory: end other programs and "
                           "try again.")
        reply = json.loads(line)
        if reply and "error" in reply:
            raise getattr(errors, reply["error"])(reply["message"])
        return reply
