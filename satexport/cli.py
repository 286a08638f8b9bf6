"""The entry point of the command line. `main` imports everything else inside its `try`, so that Ctrl-C during
these imports ends the process as it does later."""

from __future__ import annotations

import sys
from typing import NoReturn

INTERRUPTED = 130  # exit code after Ctrl-C: 128 + SIGINT


def main() -> NoReturn:
    """Run the command line and end the process with its exit code."""
    try:
        from satexport.commands.group import run

        code = run()
    except KeyboardInterrupt:
        from satexport.terminal import note

        note("Interrupted; no file was left incomplete.")
        code = INTERRUPTED
    sys.exit(code)
