"""Tag an archive: plan, let workers find what is asked for in each part, and write what they return.

Only this process writes. A part that is written is done; one with a recording that could not be read is tried
again by the next run in the same folder.
"""

from __future__ import annotations

import os
import time
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from itertools import groupby
from pathlib import Path
from typing import Any

from satexport.archive.contents import CONTENTS, Chunks
from satexport.archive.job import Job, PieceResult, Task
from satexport.archive.plan import Part, Piece, Recording, find_recordings, plan_parts
from satexport.archive.store import Store
from satexport.archive.tables import PartFacts, Problem, find_problems, import_pyarrow, render
from satexport.archive.worker import THREADS, check_worker, tag_part
from satexport.bundle.contract import ANY
from satexport.bundle.folder import Bundle, open_bundle
from satexport.bundle.places import check_outside
from satexport.cluster import Cluster, ClusterOptions, Lost, open_cluster
from satexport.errors import RunError, UsageError
from satexport.origin import cores, sources_sha256
from satexport.progress import progress
from satexport.tagging.events import EventOptions
from satexport.terminal import note
from satexport.version import __version__

RESAMPLER = "soxr HQ"


@dataclass(frozen=True, kw_only=True)
class TagOptions:
    """What is tagged, and how."""

    bundle: Path
    paths: Sequence[str]                     # folders, lists, globs and files
    output: Path                             # folder
    content: str = "tags"                    # a key of `CONTENTS`
    events: EventOptions = field(default_factory=EventOptions)   # also the thresholds of tags
    files_sha256: Mapping[str, str] = field(default_factory=dict)  # of the files that `events` was read from
    batch: int | None = None                 # streams in one step; None: those of the graph, or 1
    piece_seconds: float | None = None       # of a long recording; None: see `plan_parts`
    mixed_cpus: bool = False                 # workers may compute different scores
    cluster: ClusterOptions | None = None    # None: this process does all


@dataclass(frozen=True, kw_only=True)
class TagReport:
    """What a run came to, with what earlier runs in the same folder have done."""

    output: Path
    recordings: int
    parts: int
    parts_now: int                 # of these by this run
    rows: int
    audio_seconds: float           # that were scored
    audio_seconds_now: float       # of these by this run
    start_seconds: float           # until the workers of this run had started
    work_seconds: float            # after that
    workers: int
    problems: tuple[Problem, ...]
    problems_file: Path | None

    @property
    def lost(self) -> int:
        """Recordings that could not be read, or not to their end."""
        return len({problem.name for problem in self.problems if problem.is_lost})

    @property
    def times_real_time(self) -> float:
        """Audio that this run scored, in seconds per second of work."""
        return self.audio_seconds_now / self.work_seconds if self.work_seconds else 0.0


def tag(options: TagOptions) -> TagReport:
    """Tag an archive. Raises `UsageError` if the folder has another run or the bundle cannot batch,
    `DataError` if no recording is found, `MissingError` if a package, runtime or worker's path is missing,
    `RunError` if a part cannot be written or the workers are gone: what is written stays."""
    import_pyarrow()
    begun = time.monotonic()
    bundle = open_bundle(options.bundle)
    job = _make_job(bundle, options)
    check_outside(options.output)
    store = Store(options.output)
    recordings, settings = find_recordings(options.paths), _settings(job, options)
    earlier = store.read()
    if earlier:
        job = replace(job, scores_sha256=earlier[0].pop("scores_sha256", ""))
        _check_same(store.folder, earlier[0], settings)
        recordings = _same_recordings(earlier[1], recordings)
    parts = plan_parts(recordings, bundle.contract.hop_seconds, options.piece_seconds)
    run = _Run(store, bundle, job, parts, _origin(bundle, settings))
    waiting, workers, worked = run.find_waiting(), 0, begun
    if waiting:
        with ExitStack() as opened:
            with progress("start workers", None):
                cluster = opened.enter_context(open_cluster(_as_needed(options.cluster, len(waiting))))
                job = _check_workers(cluster, job, options.mixed_cpus)
            if not earlier:
                store.begin({**settings, "scores_sha256": job.scores_sha256}, recordings)
            if cluster.dashboard:
                note(f"Dashboard: {cluster.dashboard}")
            workers, worked = cluster.size, time.monotonic()
            run.work(cluster, job, waiting)
            ended = time.monotonic()
    else:
        ended = worked
    facts = run.facts.values()
    problems = tuple(problem for part in facts for problem in part.problems)
    return TagReport(
        output=store.folder, recordings=len(recordings), parts=len(parts), parts_now=len(waiting),
        rows=sum(part.rows for part in facts), audio_seconds=sum(part.seconds for part in facts),
        audio_seconds_now=run.seconds_now, start_seconds=worked - begun, work_seconds=ended - worked,
        workers=workers, problems=problems, problems_file=store.write_problems(problems))


def _make_job(bundle: Bundle, options: TagOptions) -> Job:
    """Raises `UsageError` if the bundle does not run this many streams in a step, or lacks what is asked."""
    streams = bundle.contract.options.streams
    batch = options.batch or max(1, streams)
    if streams not in (ANY, batch):
        raise UsageError(f"--batch {batch}: {bundle.path} runs {streams} in a step. Leave --batch out, or "
                         "make a bundle for any number of streams: export with --streams dynamic.")
    job = Job(bundle=os.path.abspath(bundle.path), bundle_sha256=bundle.sha256, batch=batch,
              content=options.content, events=options.events)
    CONTENTS[job.content].collector(job, bundle.contract, bundle.labels)
    return job


def _settings(job: Job, options: TagOptions) -> dict[str, Any]:
    """All that decides the result, besides the recordings and the scores of the workers."""
    events, off = job.events, job.events.off
    return {
        "content": job.content, "bundle_sha256": job.bundle_sha256, "batch": job.batch, "threads": THREADS,
        "threshold": events.on, "threshold_off": events.on if off is None else off,
        "least": events.least_seconds, "bridge": events.bridge_seconds, "smooth": events.smooth_chunks,
        "split_seconds": options.piece_seconds, "mixed_cpus": options.mixed_cpus,
        "resampler": RESAMPLER, **options.files_sha256, "satexport": __version__,
        "sources_sha256": sources_sha256()}


def _origin(bundle: Bundle, settings: Mapping[str, Any]) -> dict[str, str]:
    """The origin of the rows, for the files."""
    contract = bundle.contract
    return {"model": contract.variant, "precision": bundle.target.precision,
            "labels_sha256": contract.labels_sha256, "checkpoint_sha256": contract.checkpoint.sha256,
            "sample_rate": str(contract.sample_rate),
            **{key: str(value) for key, value in settings.items() if value is not None}}


def _check_same(folder: Path, earlier: Mapping[str, Any], now: Mapping[str, Any]) -> None:
    """Raise `UsageError` if the run in the folder has other settings."""
    differing = [key for key in {**earlier, **now} if earlier.get(key) != now.get(key)]
    if differing:
        words = ", ".join(f"{key} was {_short(earlier.get(key))} and is {_short(now.get(key))}"
                          for key in differing)
        raise UsageError(f"{folder} has a run with other settings, whose rows would not fit: {words}. Choose "
                         "another --output, or the settings of that run.")


def _short(value: object) -> str:
    text = "not given" if value is None else str(value)
    return f"{text[:12]}..." if len(text) > 40 else text


def _same_recordings(earlier: list[Recording], now: Sequence[Recording]) -> list[Recording]:
    """The recordings of the run that is taken up again, with notes on what has changed since."""
    before, found = ({recording.path: recording for recording in each} for each in (earlier, now))
    added = len(found.keys() - before.keys())
    changed = [path for path in before.keys() & found.keys() if before[path].size != found[path].size]
    if added:
        note(f"{added} recordings are new since this run began and are left out: tag them into another "
             "folder.")
    if changed:
        note(f"{len(changed)} recordings have another size than when this run began, such as {min(changed)}: "
             "their rows may not fit together. Tag them into another folder.")
    return earlier


def _as_needed(options: ClusterOptions | None, parts: int) -> ClusterOptions | None:
    """The options, with no more workers on this machine than there are parts."""
    if options is None or options.scheduler:
        return options
    return replace(options, workers=min(options.workers or cores(), parts))


def _check_workers(cluster: Cluster, job: Job, mixed_cpus: bool) -> Job:
    """Return the job with the scores that every worker must compute. Raises `RunError` if they differ."""
    found = cluster.check(check_worker, job)
    if mixed_cpus:
        return job
    if len(set(found.values())) > 1:
        first = min(found)
        others = [worker for worker, sha256 in found.items() if sha256 != found[first]]
        raise RunError(f"workers compute different scores of the golden chunks, {first} others than "
                       f"{others[0]} and {len(others) - 1} more: their CPUs or runtimes differ, and the "
                       "result would depend on who did what. Use workers of one kind, or allow it with "
                       "--mixed-cpus.")
    (sha256, *_) = set(found.values())
    if job.scores_sha256 not in ("", sha256):
        raise RunError("this run was begun on another kind of CPU, or with another runtime, which computes "
                       "other scores of the golden chunks. Go on there, or begin another run.")
    return replace(job, scores_sha256=sha256)


class _Run:
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
                if facts and not facts.has_failed:
                    self.facts[group[0].number] = facts
                else:
                    missing = [part for part in group if facts or not self._store.has_piece(part)]
                    waiting += missing or group[-1:]  # the last one, to be joined with the others
                advance()
        return waiting

    def work(self, cluster: Cluster, job: Job, waiting: Sequence[Part]) -> None:
        """Let workers do parts, and write them as they come."""
        total = sum(part.seconds for part in waiting)
        group_of = {part.number: group for group in self._groups for part in group}
        tasks = (Task(job=job, part=part) for part in waiting)
        with progress(f"tag with {cluster.size} workers", total, unit="audio") as advance:
            for task, answer in cluster.run(tag_part, tasks):
                results = _lost(task.part, answer.reason) if isinstance(answer, Lost) else answer
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
        self._store.write_part(part, render(
            self._job, self._bundle.contract, self._bundle.labels, results, self._origin))
        self.facts[part.number] = PartFacts(
            rows=sum(len(columns["start_time"]) for result in results for columns in result.columns),
            seconds=sum(result.seconds for result in results), problems=tuple(find_problems(results)))


def _lost(part: Part, reason: str) -> list[PieceResult]:
    return [PieceResult(piece=piece, columns=(), end=0.0, seconds=0.0, problem=reason)
            for piece in part.pieces]
