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
from pathlib import Path
from typing import Any

from satexport.archive.contents import CONTENTS
from satexport.archive.job import Job
from satexport.archive.plan import Part, Recording, find_recordings, plan_parts
from satexport.archive.store import Store
from satexport.archive.tables import Problem, import_pyarrow
from satexport.archive.work import Work
from satexport.archive.worker import THREADS, check_worker
from satexport.bundle.contract import ANY
from satexport.bundle.folder import Bundle, open_bundle
from satexport.bundle.places import check_outside
from satexport.cluster import Cluster, ClusterOptions, open_cluster
from satexport.errors import RunError, UsageError
from satexport.files import only_command
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
    with only_command(options.output):
        return _tag(options, bundle, job, store, begun)


def _tag(options: TagOptions, bundle: Bundle, job: Job, store: Store, begun: float) -> TagReport:
    recordings, settings = find_recordings(options.paths), _settings(job, options)
    earlier = store.read()
    if earlier:
        job = replace(job, worker_sha256=earlier[0].pop("worker_sha256", ""))
        _check_same(store.folder, earlier[0], settings)
        recordings = _same_recordings(earlier[1], recordings)
    parts = plan_parts(recordings, bundle.contract.hop_seconds, options.piece_seconds)
    work = Work(store, bundle, job, parts, _origin(bundle, settings))
    waiting, workers, worked = work.find_waiting(), 0, begun
    if waiting:
        with ExitStack() as opened:
            with progress("start workers", None):
                cluster = opened.enter_context(open_cluster(_as_needed(options.cluster, len(waiting))))
                job = _check_workers(cluster, replace(job, sample=_sample(waiting)), options.mixed_cpus)
            if not earlier:
                store.begin({**settings, "worker_sha256": job.worker_sha256}, recordings)
            if cluster.dashboard:
                note(f"Dashboard: {cluster.dashboard}")
            workers, worked = cluster.size, time.monotonic()
            work.run(cluster, job, waiting)
            ended = time.monotonic()
    else:
        ended = worked
    facts = work.facts.values()
    problems = tuple(sorted({problem for part in facts for problem in part.problems}))
    return TagReport(
        output=store.folder, recordings=len(recordings), parts=len(parts), parts_now=len(waiting),
        rows=sum(part.rows for part in facts), audio_seconds=sum(part.seconds for part in facts),
        audio_seconds_now=work.seconds_now, start_seconds=worked - begun, work_seconds=ended - worked,
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
        "resampler": RESAMPLER, **options.files_sha256, "version": __version__,
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
    added, gone = len(found.keys() - before.keys()), len(before.keys() - found.keys())
    changed = [path for path in before.keys() & found.keys() if before[path].size != found[path].size]
    if added:
        note(f"New since this run began: {_count(added)}, left out. Tag them into another folder.")
    if gone:
        note(f"Not found any more: {_count(gone)}. What was tagged of them stays.")
    if changed:
        note(f"Of another size than when this run began: {_count(len(changed))}, such as {min(changed)}; the "
             "rows may not fit together. Tag them into another folder.")
    return earlier


def _as_needed(options: ClusterOptions | None, parts: int) -> ClusterOptions | None:
    """The options, with no more workers on this machine than there are parts."""
    if options is None or options.scheduler:
        return options
    return replace(options, workers=min(options.workers or cores(), parts))


def _sample(parts: Sequence[Part]) -> str:
    """The path of a recording that is there; "": none is."""
    paths = (piece.recording.path for part in parts for piece in part.pieces)
    return next(filter(os.path.exists, paths), "")


def _count(recordings: int) -> str:
    return f"{recordings} recording{'s' * (recordings != 1)}"


def _check_workers(cluster: Cluster, job: Job, mixed_cpus: bool) -> Job:
    """Return the job with the scores that every worker must compute. Raises `RunError` if they differ."""
    found = cluster.check(check_worker, job)
    if mixed_cpus:
        return job
    kinds = {sha256: worker for worker, sha256 in found.items()}
    if len(kinds) > 1:
        raise RunError("workers compute different scores of the golden chunks, or decode with other "
                       f"versions, such as {' and '.join(list(kinds.values())[:2])}: their CPUs or packages "
                       "differ, and the result would depend on who did what. Use workers of one kind, or "
                       "allow it with --mixed-cpus.")
    (sha256,) = kinds
    if job.worker_sha256 not in ("", sha256):
        raise RunError("this run was begun on another kind of CPU, or with other versions of what computes "
                       "and decodes, so that its rows would differ in the last digits. Go on there, or begin "
                       "another run.")
    return replace(job, worker_sha256=sha256)
