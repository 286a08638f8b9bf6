"""The work of a run: which parts wait, what workers return of them, and what is written."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import replace
from itertools import groupby

from satexport.archive.contents import CONTENTS, Chunks
from satexport.archive.job import Job, PieceResult, Task
from satexport.archive.plan import Part, Piece
from satexport.archive.store import Store
from satexport.archive.tables import PartFacts, find_problems, render
from satexport.archive.worker import tag_part
from satexport.bundle.folder import Bundle
from satexport.cluster import Cluster, Lost
from satexport.errors import MissingError
from satexport.progress import progress


class Work:
    """The parts of a run, and what is written of them."""

    def __init__(self, store: Store, bundle: Bundle, job: Job, parts: Sequence[Part],
                 origin: Mapping[str, str]) -> None:
        self._store, self._bundle, self._job, self._origin = store, bundle, job, origin
        self.facts: dict[int, PartFacts] = {}  # of the files that are written
        self.seconds_now = 0.0                 # of audio that this run scored
        self._groups = [list(group) for _, group in groupby(parts, self._group)]  # each becomes one file

    def _group(self, part: Part) -> object:
        """The same for parts that become one file: the pieces of a recording that is needed as a whole."""
        return part.pieces[0].recording.path if self._is_kept(part) else part.number

    def _is_kept(self, part: Part) -> bool:
        return CONTENTS[self._job.content].needs_whole and not part.pieces[0].is_whole

    def find_waiting(self) -> list[Part]:
        """The parts that are not done, and those with problems that may have been mended since."""
        waiting: list[Part] = []
        with progress("read what is done", len(self._groups)) as advance:
            for group in self._groups:
                facts = self._store.facts(group[0])
                if facts:
                    self._store.drop_pieces(group if self._is_kept(group[0]) else ())
                if facts and not facts.has_failed:
                    self.facts[group[0].number] = facts
                else:
                    missing = [part for part in group if facts or not self._store.has_piece(part)]
                    waiting += missing or group[-1:]  # the last one, to be joined with the others
                advance()
        return waiting

    def run(self, cluster: Cluster, job: Job, waiting: Sequence[Part]) -> None:
        """Let workers do parts, and write them as they come."""
        total = sum(part.seconds for part in waiting)
        group_of = {part.number: group for group in self._groups for part in group}
        tasks = (Task(job=job, part=part) for part in waiting)
        with progress(f"tag with {cluster.size} workers", total, unit="audio") as advance:
            for task, answer in cluster.run(tag_part, tasks):
                results = self._one_by_one(cluster, task) if isinstance(answer, Lost) else answer
                _check_seen(results)
                self.seconds_now += sum(result.seconds for result in results)
                group = group_of[task.part.number]
                if not self._is_kept(task.part):
                    self._write(task.part, results)
                else:
                    self._store.write_piece(task.part, results[0])
                    if all(self._store.has_piece(part) for part in group):
                        self._write(group[0], [self._join(group)])
                        self._store.drop_pieces(group)
                advance(task.part.seconds)

    def _one_by_one(self, cluster: Cluster, task: Task) -> list[PieceResult]:
        """The results of a part that ended its workers: its recordings each in a task of its own, so that
        only the one that does so is lost."""
        pieces = task.part.pieces
        tasks = [replace(task, part=Part(number=number, pieces=(piece,), seconds=0.0))
                 for number, piece in enumerate(pieces)]
        results: dict[int, PieceResult] = {}
        for single, answer in cluster.run_alone(tag_part, tasks):
            number = single.part.number
            results[number] = answer[0] if not isinstance(answer, Lost) else PieceResult(
                piece=pieces[number], columns=(), end=0.0, seconds=0.0,
                problem=f"{pieces[number].recording.path}: {answer.reason}")
        return [results[number] for number in range(len(pieces))]

    def _join(self, group: Sequence[Part]) -> PieceResult:
        """What is found in a recording from the chunks of its pieces, until one could not be read on."""
        contract, labels = self._bundle.contract, self._bundle.labels
        collector = CONTENTS[self._job.content].collector(self._job, contract, labels)
        end, seconds, warnings = 0.0, 0.0, list[str]()
        for part in group:
            result = self._store.read_piece(part)
            for columns in result.columns:
                collector.add(Chunks(**columns))
            end, seconds = result.end or end, seconds + result.seconds
            warnings += result.warnings
            if result.problem:
                break
        found = collector.finish(end)
        return PieceResult(
            piece=Piece(recording=group[0].pieces[0].recording), columns=(found,) if found else (), end=end,
            seconds=seconds, problem=result.problem, warnings=tuple(warnings))

    def _write(self, part: Part, results: Sequence[PieceResult]) -> None:
        """Write a part, unless an earlier run could read more of it."""
        facts = PartFacts(
            rows=sum(len(columns["start_time"]) for result in results for columns in result.columns),
            seconds=sum(result.seconds for result in results), problems=tuple(find_problems(results)))
        earlier = self._store.facts(part)
        if earlier and earlier.seconds > facts.seconds:
            facts = earlier
        else:
            self._store.write_part(part, render(
                self._job, self._bundle.contract, self._bundle.labels, results, self._origin))
        self.facts[part.number] = facts


def _check_seen(results: Sequence[PieceResult]) -> None:
    """Raise `MissingError` if a worker does not see a recording that is there."""
    for result in results:
        if result.is_missing and os.path.exists(path := result.piece.recording.path):
            raise MissingError(f"{path}: a worker sees no such file; expected the recordings at the same "
                               "paths as on the machine of the command. Share their folder with all workers.")
