"""The process that is measured, seen from the one that measures: how it is started, asked and ended."""

from __future__ import annotations

import json
import subprocess
import sys
from types import TracebackType
from typing import Any

from satexport import errors
from satexport.errors import RunError


class Process:
    """A `satexport.measure.worker` and how to talk to it; leaving the block ends it."""

    def __init__(self, name: str) -> None:
        self.name = name
        self._process = subprocess.Popen(
            [sys.executable, "-m", "satexport.measure.worker"], stdin=subprocess.PIPE,
            stdout=subprocess.PIPE, text=True, start_new_session=True)  # Ctrl-C is for the parent alone

    def __enter__(self) -> Process:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None,
                 trace: TracebackType | None) -> None:
        self._process.kill()
        self._process.communicate()

    def ask(self, do: str, **arguments: Any) -> Any:
        """Have its `Worker` do something and return the reply; blocks until it is done. Raises the error that
        the worker met, `RunError` if it died."""
        assert self._process.stdin
        assert self._process.stdout
        try:
            print(json.dumps({"do": do, **arguments}), file=self._process.stdin, flush=True)
            line = self._process.stdout.readline()
        except BrokenPipeError:
            line = ""
        if not line:
            raise RunError(f"{self.name}: the process that is measured ended (exit code "
                           f"{self._process.wait()}); was there enough memory?")
        reply = json.loads(line)
        if "error" in reply:
            raise getattr(errors, reply["error"])(reply["message"])
        return reply
