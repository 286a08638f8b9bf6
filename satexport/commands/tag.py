"""`satexport tag`: tag an archive of recordings with many workers."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from satexport.commands.console import ignore_closed_pipe, print_json
from satexport.commands.options import (
    Seconds,
    WholeNumber,
    cluster_options,
    json_option,
    parse_cluster,
)
from satexport.commands.run_events import EventFlags, finding_options, hash_files, read_options
from satexport.errors import AudioError, UsageError
from satexport.terminal import note, say

if TYPE_CHECKING:
    from satexport.archive.run import TagReport

CONTENT_NAMES = ("tags", "scores", "events", "embeddings")  # the keys of CONTENTS
HOUR, MINUTE = 3600, 60  # s
SHOWN = 5   # problems that are printed; the file lists all


@click.command("tag")
@click.argument("bundle", type=click.Path(path_type=Path))
@click.argument("paths", nargs=-1, required=True, metavar="PATH...")
@click.option("-o", "--output", type=click.Path(path_type=Path), required=True, metavar="OUT",
              help="Folder for the result, Parquet files; new, or of an earlier run of the same command, "
                   "which then goes on.")
@click.option("--content", type=click.Choice(CONTENT_NAMES), default="tags", show_default=True,
              help="What to write: the tags of each chunk over a threshold, all its scores (float16), "
                   "events, or embeddings.")
@finding_options
@click.option("--batch", type=WholeNumber(1, 1024), metavar="N",
              help="Recordings in one step of a worker, for a bundle exported with --streams dynamic.  "
                   "[default: 1]")
@click.option("--split", type=Seconds(0.1, 24 * 60), metavar="MINUTES",
              help="Longest piece of a recording that one worker takes. The result is the same for any. "
                   "Default: 10 to 60 minutes.")
@click.option("--mixed-cpus", is_flag=True,
              help="Allow workers whose scores differ in the last digits, because their CPUs do.")
@cluster_options("one for each core.")
@json_option
def tag_command(bundle: Path, paths: tuple[str, ...], output: Path, content: str, batch: int | None,
                split: float | None, mixed_cpus: bool, workers: int | None, scheduler: str | None,
                tls_ca: Path | None, tls_cert: Path | None, tls_key: Path | None, as_json: bool,
                **event_flags: Any) -> None:
    """Tag an archive of recordings: hours or years of them, on all cores or a cluster.

    PATH is a folder (with its subfolders), a recording, a glob in quotes, or a list of recordings (.txt, one
    per line). The result is the same, bit for bit, for any number of workers, and a run that was stopped goes
    on with the same command (docs/archives.md).

    \b
    Examples:
      satexport tag build/sat-t-2s/cpu-int8 my-recordings/ -o tags/
      satexport tag build/sat-t-2s/cpu-int8 recordings.txt -o events/ --content events --threshold 0.3
      satexport tag build/sat-t-2s/cpu-int8 'my-recordings/*.wav' -o scores/ --content scores --workers 8
      satexport tag build/sat-t-2s/cpu-int8 my-recordings/ -o tags/ --scheduler tcp://HOST:8786
    """
    from satexport.archive.run import TagOptions, tag
    from satexport.backends.backend import remark_on
    from satexport.bundle.folder import open_bundle
    from satexport.cluster import ClusterOptions

    flags = EventFlags(start=None, output=None, format_name=None, **event_flags)
    _check_flags(content, flags)
    opened = open_bundle(bundle)
    events = read_options(flags, opened.labels)
    if not scheduler:
        note(remark_on(opened.target))
    report = tag(TagOptions(
        bundle=bundle, paths=paths, output=output, content=content, events=events,
        files_sha256=hash_files(flags), batch=batch, piece_seconds=split and split * 60,
        mixed_cpus=mixed_cpus,
        cluster=parse_cluster(workers, scheduler, tls_ca, tls_cert, tls_key) or ClusterOptions()))
    with ignore_closed_pipe():
        if as_json:
            print_json(_to_json(report))
        else:
            _print(report, content)
    _finish(report)


def _check_flags(content: str, flags: EventFlags) -> None:
    """Raise `UsageError` for options that do not apply to this content."""
    of_events = {"--threshold-off": flags.threshold_off, "--groups": flags.groups, "--least": flags.least,
                 "--bridge": flags.bridge, "--smooth": flags.smooth}
    of_tags = {"--threshold": flags.threshold, "--thresholds": flags.thresholds}
    unused = {} if content == "events" else of_events if content == "tags" else of_events | of_tags
    for option, value in unused.items():
        if value is not None:
            raise UsageError(f"{option} does not apply to --content {content}. Leave it out, or choose "
                             "another --content.")


def _to_json(report: TagReport) -> Mapping[str, Any]:
    """A report as JSON has it."""
    from dataclasses import asdict

    return {"kind": "tag", **asdict(report), "output": str(report.output),
            "problems_file": report.problems_file and str(report.problems_file), "lost": report.lost,
            "times_real_time": report.times_real_time}


def _print(report: TagReport, content: str) -> None:
    """Print what a run came to."""
    from satexport.archive.contents import CONTENTS

    row = CONTENTS[content].title
    say(f"{report.output}: {report.rows:,} {row}{'s' * (report.rows != 1)} of {report.recordings:,} "
        f"recording{'s' * (report.recordings != 1)}, {_duration(report.audio_seconds)} of audio")
    if report.parts_now:
        say(f"  now: {report.parts_now} of {report.parts} parts, {_duration(report.audio_seconds_now)} in "
            f"{report.work_seconds:,.1f} s, {report.times_real_time:,.0f} times real time")
        say(f"  {report.workers} worker{'s' * (report.workers != 1)}, "
            f"started in {report.start_seconds:.1f} s")
    else:
        say("  nothing was left to do")


def _duration(seconds: float) -> str:
    return f"{seconds / HOUR:,.1f} h" if seconds >= HOUR else f"{seconds / MINUTE:.1f} min"


def _finish(report: TagReport) -> None:
    """Say what was wrong with recordings. Raises `AudioError` if one could not be read completely."""
    reason_of = {problem.name: problem.reason for problem in report.problems[::-1] if problem.is_lost}
    lines, warnings = list(reason_of.values())[::-1], sum(not p.is_lost for p in report.problems)
    if warnings:
        note(f"{warnings} warning{'s' * (warnings != 1)} about recordings: {report.problems_file}")
    if report.lost:
        more = f"and {len(lines) - SHOWN} more" if len(lines) > SHOWN else ""
        raise AudioError(f"{report.lost} of {report.recordings} recordings could not be read completely, "
                         f"listed in {report.problems_file}. What could be read is tagged. The same command "
                         "tries them again.",
                         *lines[:SHOWN], *([more] if more else []))
