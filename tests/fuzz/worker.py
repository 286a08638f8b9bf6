"""The process that uses mutated files: it reads a line of JSON for each and writes a line with the result.
The parent detects a crash or a hang.

    python -m tests.fuzz.worker MODULE    the module that defines KINDS
"""

from __future__ import annotations

import importlib
import json
import os
import sys
import traceback
from pathlib import Path
from typing import Any

from satexport.errors import SatexportError
from tests.fuzz.kinds import Kind, WrongError


def use(kind: Kind, path: Path, valid: Path) -> dict[str, Any]:
    """The result of using a file: "accepted", "refused" with exit code and message, or "fault" with the
    reason."""
    try:
        kind.use(path, valid)
    except SatexportError as error:
        return {"end": "refused", "exit": error.exit_code, "text": str(error)}
    except WrongError as error:
        return {"end": "fault", "text": f"accepted: {error}"}
    except BaseException:  # even a KeyboardInterrupt from a library is a fault
        return {"end": "fault", "text": traceback.format_exc(limit=-6)}
    return {"end": "accepted", "text": ""}


def main() -> None:
    """Use files until there are no more."""
    replies = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)  # keep the output of libraries out of the replies
    kinds = importlib.import_module(sys.argv[1]).KINDS
    for line in sys.stdin:
        asked = json.loads(line)
        reply = use(kinds[asked["kind"]], Path(asked["path"]), Path(asked["valid"]))
        print(json.dumps(reply), file=replies, flush=True)


if __name__ == "__main__":
    main()
