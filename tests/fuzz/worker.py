"""The process that uses doubtful files: it reads a line of JSON for each and writes one about how it ended.
What kills it, or what it waits for, is for the parent to see.

    python -m tests.fuzz.worker MODULE    whose KINDS they are of
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
    """How the use of a file ended: "accepted", "refused" with exit code and message, or "fault" and why."""
    try:
        kind.use(path, valid)
    except SatexportError as error:
        return {"end": "refused", "exit": error.exit_code, "text": str(error)}
    except WrongError as error:
        return {"end": "fault", "text": f"accepted: {error}"}
    except BaseException:  # an interrupt out of a library, too, is no way to end
        return {"end": "fault", "text": traceback.format_exc(limit=-6)}
    return {"end": "accepted", "text": ""}


def main() -> None:
    """Use files until there are no more."""
    replies = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)  # what a library prints is no reply
    kinds = importlib.import_module(sys.argv[1]).KINDS
    for line in sys.stdin:
        asked = json.loads(line)
        reply = use(kinds[asked["kind"]], Path(asked["path"]), Path(asked["valid"]))
        print(json.dumps(reply), file=replies, flush=True)


if __name__ == "__main__":
    main()
