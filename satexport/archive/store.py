"""The output folder of a run. A file that is there is complete, so a run can be stopped at any moment and
taken up again:

    part-0000000.parquet   the rows of a part; all of them together are one table, by recording and time
    _run.json              what decides the result, and the recordings
    _problems.csv          recordings that could not be read completely, and warnings; if there are any
    _piece-0000012.npz     the chunks of a piece, until the others of its recording are there; of events only

Readers of Parquet data sets leave out files whose names begin with an underscore.
"""

from __future__ import annotations

import csv
import dataclasses
import io
import json
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np

from satexport import facts
from satexport.archive.job import PieceResult
from satexport.archive.plan import Part, Recording
from satexport.archive.tables import PartFacts, Problem, read_facts
from satexport.errors import DataError, RunError, UsageError
from satexport.files import (
    check_writable,
    write_bytes,
    write_json,
    write_text,
)
from satexport.terminal import shown

MANIFEST = "_run.json"
PROBLEMS = "_problems.csv"
SCHEMA = 1
KIND = "tag"


class Store:
    """The output folder, and what a run has written there. Raises `UsageError` if it has other files, or is a
    file, `RunError` if it cannot be written."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._manifest = folder / MANIFEST
        if folder.exists() and not folder.is_dir():
            raise UsageError(f"{folder} is a file; expected a folder, new or of an earlier run. Choose "
                             "another --output.")
        if folder.is_dir() and any(folder.iterdir()) and not self._manifest.is_file():
            raise UsageError(f"{folder} has files that are not of a run of `satexport tag`. Choose another "
                             "--output, such as a folder that does not exist yet.")
        check_writable(folder)

    def read(self) -> tuple[dict[str, Any], list[Recording]] | None:
        """The settings and recordings of the run in the folder; None if it is new. Raises `UsageError` if
        they cannot be read."""
        if not self._manifest.is_file():
            return None
        try:
            content = json.loads(self._manifest.read_text(encoding="utf-8"))
            if (content["kind"], content["schema"]) != (KIND, SCHEMA):
                raise ValueError(f"it has schema {shown(content['schema'])}")
            return dict(content["settings"]), [
                Recording(**facts.check_fields(Recording, dict(fields), self._manifest))
                for fields in content["recordings"]]
        except (OSError, ValueError, KeyError, TypeError, DataError) as error:
            raise UsageError(f"{self._manifest} is not that of a run of this version ({error}). Choose "
                             "another --output, or delete the folder.") from None

    def begin(self, settings: Mapping[str, Any], recordings: Sequence[Recording]) -> None:
        """Write what the run is. Raises `RunError` if it cannot be written."""
        write_json(self._manifest, {
            "schema": SCHEMA, "kind": KIND, "settings": dict(settings),
            "recordings": [dataclasses.asdict(recording) for recording in recordings]})

    def facts(self, part: Part) -> PartFacts | None:
        """What is known of a part that is written; None if it is not."""
        return read_facts(self._part_file(part))

    def write_part(self, part: Part, content: bytes) -> None:
        """Raises `RunError` if it cannot be written."""
        write_bytes(self._part_file(part), content)

    def _part_file(self, part: Part) -> Path:
        return self.folder / f"part-{part.number:07}.parquet"

    def _piece_file(self, part: Part) -> Path:
        return self.folder / f"_piece-{part.number:07}.npz"

    def has_piece(self, part: Part) -> bool:
        return self._piece_file(part).is_file()

    def write_piece(self, part: Part, result: PieceResult) -> None:
        """Keep the chunks of a piece, the only one of its part. Raises `RunError` if they cannot be
        written."""
        file = io.BytesIO()
        facts = json.dumps([result.end, result.seconds, result.problem, result.warnings])
        tables = {f"{name}.{number}": column for number, columns in enumerate(result.columns)
                  for name, column in columns.items()}
        np.savez(file, facts=np.frombuffer(facts.encode(), np.uint8), **tables)  # type: ignore[arg-type]
        write_bytes(self._piece_file(part), file.getvalue())

    def read_piece(self, part: Part) -> PieceResult:
        """What `write_piece` has written. Raises `RunError` if the file is damaged."""
        path = self._piece_file(part)
        try:
            with np.load(path) as arrays:
                end, seconds, problem, warnings = json.loads(arrays["facts"].tobytes())
                tables: dict[int, dict[str, Any]] = {}
                for key in arrays.files:
                    name, _, number = key.partition(".")
                    if number:
                        tables.setdefault(int(number), {})[name] = arrays[key]
            return PieceResult(
                piece=part.pieces[0], columns=tuple(tables[number] for number in sorted(tables)), end=end,
                seconds=seconds, problem=problem, warnings=tuple(warnings))
        except Exception as error:  # numpy raises many kinds for a damaged file
            raise RunError(f"{path} is damaged ({error}). Delete it, and run the command again.") from None

    def drop_pieces(self, parts: Iterable[Part]) -> None:
        """Remove the chunks of pieces that are no longer needed."""
        for part in parts:
            with suppress(OSError):
                self._piece_file(part).unlink(missing_ok=True)

    def write_problems(self, problems: Sequence[Problem]) -> Path | None:
        """Write the list of problems and return where; without any, remove an earlier one. Raises `RunError`
        if it cannot be written."""
        path = self.folder / PROBLEMS
        if not problems:
            path.unlink(missing_ok=True)
            return None
        text = io.StringIO()
        writer = csv.writer(text, lineterminator="\n")
        writer.writerow(("input", "kind", "reason"))
        writer.writerows((problem.name, "lost" if problem.is_lost else "warning", problem.reason)
                         for problem in problems)
        write_text(path, text.getvalue())
        return path
