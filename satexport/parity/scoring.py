"""Score the clips of a set in groups, in this process or on the workers of a cluster, by the same code."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from satexport.audio.clips import Clip
from satexport.audio.datasets import LabelledSet
from satexport.audio.files import audio_blocks
from satexport.bundle.threads import live_threads
from satexport.cluster import ClusterOptions, Lost, open_cluster
from satexport.errors import DataError, RunError
from satexport.origin import origin, sources_sha256
from satexport.parity.event_metrics import EventRules
from satexport.parity.groups import (
    Array,
    Check,
    Group,
    Loaded,
    Scorers,
    check_worker,
    group_size,
    lend,
)
from satexport.parity.kept import Kept
from satexport.progress import progress

SOME = 20   # clips that an error lists; a file in the folder of `Kept` lists all


@dataclass(frozen=True, kw_only=True)
class SetOptions:
    """How the clips of a set are scored."""

    cluster: ClusterOptions | None = None   # None: in this process
    threads: int | None = None              # that the command asks for; None: see `_threads`
    checkpoint: str | None = None           # the file of the weights, for workers
    kept: Kept | None = None                # None: nothing is kept of a run that is not finished
    skip_unreadable: bool = False           # leave out clips that cannot be read, instead of an error


HERE = SetOptions()   # in this process, from the beginning


@dataclass(frozen=True, kw_only=True)
class Task:
    """A group of clips to score."""

    number: int
    scorers: Scorers
    clips: tuple[Clip, ...]
    rules: EventRules | None = None     # to find events by; None: the set has no strong labels
    judged: tuple[int, ...] = ()        # numbers of the labels of its events


@dataclass(frozen=True, kw_only=True)
class Scored:
    """The groups of a set that was scored."""

    data: LabelledSet                   # the clips that were read; its origin says what was left out, and how
                                        # the clips were scored
    groups: tuple[Group, ...]           # in the order of the clips

    def each(self, figure: str) -> list[Array]:
        """A figure of each group."""
        return [group.figures[figure] for group in self.groups]

    def join(self, figure: str) -> Array:
        """A figure of all groups, one after the other."""
        return np.concatenate(self.each(figure))

    @property
    def seconds(self) -> list[float]:
        """The length of each clip."""
        return [seconds for group in self.groups for seconds in group.seconds]

    @property
    def hashes(self) -> list[str]:
        """The `clip_hash` of each clip."""
        return [found for group in self.groups for found in group.hashes]


@dataclass(frozen=True)
class _Run:
    """A set, cut into tasks."""

    function: Callable[[Task], Group]
    loaded: Loaded
    data: LabelledSet
    options: SetOptions
    tasks: list[Task]
    refuse: Callable[[Clip, str], None]
    scored_with: dict[str, Any]   # for the origin of the set

    def groups(self) -> Iterator[Group]:
        """Yield the groups, in any order: those that an earlier run finished, then the others."""
        kept, waiting = self.options.kept, []
        for task in self.tasks:
            group = kept.read(task.number) if kept else None
            if group and not (group.unreadable and not self.options.skip_unreadable):
                yield group
            else:
                waiting.append(task)
        if not waiting:
            return
        with open_cluster(self.options.cluster) as cluster, lend(self.tasks[0].scorers, self.loaded):
            if self.options.cluster:
                files = (clip.file for task in self.tasks for clip in task.clips)
                there = next((file for file in files if file and file.is_file()), None)
                cpus = cluster.check(check_worker, Check(scorers=self.tasks[0].scorers, file=there))
                self.scored_with.update(workers=cluster.size, cpus=sorted(set(cpus.values())))
            for task, result in cluster.run(self.function, waiting):
                if isinstance(result, Lost):
                    raise RunError(f"clips {task.clips[0].name} to {task.clips[-1].name} of {self.data.name} "
                                   f"cannot be scored: {result.reason}. The groups that are finished are "
                                   "kept. Run the command again, with fewer workers if memory is short.")
                if kept:
                    kept.write(result)
                yield result

    def check(self, group: Group) -> None:
        """Raise `DataError` if a clip must not be in the set."""
        for position, found in zip(group.read, group.hashes, strict=True):
            self.refuse(self.tasks[group.number].clips[position], found)


def score_set(function: Callable[[Task], Group], loaded: Loaded, data: LabelledSet, options: SetOptions, *,
              label: str, refuse: Callable[[Clip, str], None] = lambda clip, found: None,
              rules: EventRules | None = None, judged: Sequence[int] = ()) -> Scored:
    """Score a set with what is loaded. `refuse` raises an error if a clip of this hash must not be in it.

    Raises `DataError` if clips cannot be read, unless they are skipped, or if none can; `RunError` if a
    worker ends again and again, or a result cannot be kept."""
    run = _plan(function, loaded, data, options, refuse, rules, judged)
    groups: dict[int, Group] = {}
    with progress(label, len(data.clips)) as advance:
        for group in run.groups():
            run.check(group)
            groups[group.number] = group
            advance(len(run.tasks[group.number].clips))
    ordered = [groups[number] for number in sorted(groups)]
    unreadable = [f"{run.tasks[group.number].clips[position].name}: {why}" for group in ordered
                  for position, why in group.unreadable.items()]
    read = tuple(run.tasks[group.number].clips[position] for group in ordered for position in group.read)
    if unreadable and not options.skip_unreadable:
        raise _unreadable_error(data, options, unreadable)
    if not read:
        raise DataError(f"no clip of {data.name} can be read; expected sound files.", *unreadable[:SOME])
    scored = Scored(data=data, groups=tuple(group for group in ordered if group.read))
    facts = _facts_of_set(read, scored.seconds) | {"scored_with": run.scored_with}
    if unreadable:
        facts |= {"unreadable": len(unreadable), "unreadable_clips": unreadable}
    present = {name for clip in read for name in clip.labels}
    return replace(scored, data=replace(data, clips=read, origin=data.origin | facts, classes=tuple(
        name for name in data.classes if name in present)))


def _plan(function: Callable[[Task], Group], loaded: Loaded, data: LabelledSet, options: SetOptions,
          refuse: Callable[[Clip, str], None], rules: EventRules | None, judged: Sequence[int]) -> _Run:
    """Cut a set into tasks, and look for what is kept of them."""
    tagger, size = loaded.tagger, group_size(loaded.tagger)
    threads = _threads(loaded, options)
    scorers = Scorers(bundle=tagger.bundle.path.resolve(), sha256=tagger.bundle.sha256,
                      threads=threads["bundle"] if options.cluster else None,
                      pytorch=loaded.pytorch is not None, checkpoint=_absolute(options.checkpoint))
    clips = tuple(map(_anywhere, data.clips)) if options.cluster else data.clips
    tasks = [Task(number=number, scorers=scorers, clips=clips[first:first + size], rules=rules,
                  judged=tuple(judged)) for number, first in enumerate(range(0, len(clips), size))]
    if options.kept:
        listed = hashlib.sha256("\n".join(
            repr((clip.name, clip.labels, clip.events, _path(clip))) for clip in data.clips).encode())
        options.kept.begin({
            "scores": function.__name__, "bundle_sha256": tagger.bundle.sha256,
            "checkpoint_sha256": tagger.contract.checkpoint.sha256, "set": data.name,
            "clips": len(data.clips), "clips_sha256": listed.hexdigest(), "group": size,
            "events": repr((rules, judged)), "threads": threads, "sources_sha256": sources_sha256(),
            "origin": origin()}, [task.clips for task in tasks])
    return _Run(function, loaded, data, options, tasks, refuse, {"workers": None, "threads": threads})


def _threads(loaded: Loaded, options: SetOptions) -> dict[str, int]:
    """The threads of the bundle and of PyTorch, which change rounding. By default a worker has one of each;
    in this process the bundle has those that its target sets, and PyTorch one for each core."""
    if options.cluster:
        threads = options.threads or 1
        return {"bundle": threads} | ({"pytorch": threads} if loaded.pytorch else {})
    found = {"bundle": options.threads or live_threads(loaded.tagger.bundle)}
    if not loaded.pytorch:
        return found
    import torch

    return found | {"pytorch": torch.get_num_threads()}


def _absolute(checkpoint: str | None) -> str | None:
    """The path of a checkpoint, if it is a file, as a process in another folder must have it."""
    return str(Path(checkpoint).absolute()) if checkpoint and Path(checkpoint).is_file() else checkpoint


def _anywhere(clip: Clip) -> Clip:
    """The clip with its absolute path."""
    if clip.file is None:
        return clip
    return replace(clip, blocks=partial(audio_blocks, clip.file.absolute()), file=clip.file.absolute())


def _path(clip: Clip) -> bytes:
    return os.fsencode(clip.file.absolute()) if clip.file else b""


def _unreadable_error(data: LabelledSet, options: SetOptions, lines: list[str]) -> DataError:
    """The error for clips that cannot be read."""
    more = [f"and {len(lines) - SOME} more"] if len(lines) > SOME else []
    advice = "Repair them, or take them out of the list."
    if options.kept:
        file = options.kept.list_unreadable(lines)
        more = [f"{text}: all of them are listed in {file}" for text in more]
        advice = ("Repair them, or add --skip-unreadable to leave them out. The others are not scored again: "
                  f"their results are kept in {options.kept.folder}.")
    return DataError(f"{len(lines)} of {len(data.clips)} clips of {data.name} cannot be read; expected sound "
                     f"files. {advice}", *lines[:SOME], *more)


def _facts_of_set(clips: Sequence[Clip], seconds: Sequence[float]) -> dict[str, Any]:
    """What the origin of a set says about its events: those that begin behind the end of their recording."""
    behind = {clip.name: count for clip, end in zip(clips, seconds, strict=True)
              if (count := sum(event.onset >= end for event in clip.events or ()))}
    if not behind:
        return {}
    return {"events_behind_end": sum(behind.values()), "events_behind_end_clips": list(behind)}
