"""The command line: how the process begins and how it is interrupted. What else it takes is imported inside
of `main`, so that Ctrl-C in the first moments ends it as it does later."""

from __future__ import annotations

import sys
from typing import NoReturn

INTERRUPTED = 130  # the exit code of a program that Ctrl-C ended


def main() -> NoReturn:
    """Run the command line and end the process with the exit code of what happened."""
    try:
        from satexport.commands.group import run

        code = run()
    except KeyboardInterrupt:
        from satexport.terminal import note

        note("Interrupted; what was there before is untouched.")
        code = INTERRUPTED
    sys.exit(code)
