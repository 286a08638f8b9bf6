"""`satexport run --events`: its options, and how events are printed and written."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, fields
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from satexport.commands.options import Seconds, WholeNumber
from satexport.errors import UsageError
from satexport.terminal import note, say

if TYPE_CHECKING:
    from satexport.tagging.event_files import EventTable, Format, Recording
    from satexport.tagging.events import Event, EventFinder, EventOptions
    from satexport.tagging.sounds import Chunk
    from satexport.tagging.tagger import Tagger

FAR = 10_000  # days that a recording may last, for its times to exist
DAY = 86_400  # s
FORMAT_NAMES = ("jsonl", "csv", "parquet", "dcase", "raven", "audacity")  # the keys of FORMATS
FINDING_OPTIONS = (   # what counts as an event
    click.option("--threshold", type=click.FloatRange(0, 1, min_open=True), metavar="X",
                 help="Score from which on an event begins, for labels without a threshold of their own.  "
                      "[default: 0.5]"),
    click.option("--threshold-off", type=click.FloatRange(0, 1), metavar="X",
                 help="Score below which the event ends, at most that of --threshold.  [default: the same]"),
    click.option("--thresholds", type=click.Path(path_type=Path), metavar="FILE.toml",
                 help="Thresholds of single labels, as `satexport thresholds` writes them."),
    click.option("--groups", type=click.Path(path_type=Path), metavar="FILE.toml",
                 help="Report groups of labels, by the names in this file, and nothing else."),
    click.option("--least", type=Seconds(0, DAY), metavar="SECONDS",
                 help="Leave out events that are shorter.  [default: 0]"),
    click.option("--bridge", type=Seconds(0, DAY), metavar="SECONDS",
                 help="Gaps up to this do not end an event.  [default: 0]"),
    click.option("--smooth", type=WholeNumber(1, 999), metavar="N",
                 help="Median over N chunks, an odd number, before the thresholds.  [default: 1, none]"),
)
REPORT_OPTIONS = (
    click.option("--start", metavar="TIME",
                 help="When the recording began, in ISO 8601 (2026-11-26T21:00:00+01:00; without a zone, "
                      "this computer's), or now: events then have absolute times."),
    click.option("-o", "--output", type=click.Path(path_type=Path), metavar="FILE",
                 help="Also write the events to this file, whose ending is its format: .jsonl, .csv, "
                      ".parquet, .tsv (DCASE), .txt (Audacity labels) or .selection.table.txt (Raven)."),
    click.option("--format", "format_name", type=click.Choice(FORMAT_NAMES),
                 help="Format of the file of --output, whatever its ending."),
)


@dataclass(frozen=True, kw_only=True)
class EventFlags:
    """The options above as given; None: not given."""

    threshold: float | None
    threshold_off: float | None
    thresholds: Path | None
    groups: Path | None
    least: float | None
    bridge: float | None
    smooth: int | None
    start: str | None
    output: Path | None
    format_name: str | None

    def check_unused(self) -> None:
        """Raise `UsageError` if one is given, because --events is not."""
        for field in fields(self):
            if getattr(self, field.name) is not None:
                option = "--" + field.name.removesuffix("_name").replace("_", "-")
                raise UsageError(f"{option} applies only to events: add --events, or leave it out.")


def event_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """Add the options of events to a command; their values are the fields of `EventFlags`."""
    for option in reversed(REPORT_OPTIONS):
        command = option(command)
    return finding_options(command)


def finding_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """Add those of these options that decide what counts as an event."""
    for option in reversed(FINDING_OPTIONS):
        command = option(command)
    return command


class EventPrinter:
    """Finds the events of each sound, prints them as they begin and end, and collects them for a file."""

    def __init__(self, tagger: Tagger, flags: EventFlags, names: list[str], is_live: bool,
                 as_json: bool) -> None:
        """Raises `SatexportError` if an option, or a file that it names, does not fit the bundle or the
        sounds."""
        self._tagger, self._as_json = tagger, as_json
        self._options = read_options(flags, tagger.labels)
        self._start = _read_start(flags.start, names, is_live)
        self._is_now, self._has_several = flags.start == "now", len(names) > 1
        self._origin = _read_origin(flags, self._options, tagger)
        self._file, self._format = flags.output, _find_format(flags, names, tagger, self._options)
        self._recordings: list[Recording] = []
        self._finder: EventFinder | None = None

    @property
    def has_file(self) -> bool:
        return self._file is not None

    def begin(self, name: str, title: str) -> None:
        """Begin a sound, and say so, with the delay of reports."""
        from satexport.tagging.event_files import Recording
        from satexport.tagging.events import EventFinder

        finder = EventFinder(self._tagger.labels, self._tagger.contract.hop_seconds, self._options)
        self._finder = finder
        self._recordings.append(Recording(name=name, start=self._start))
        delay = finder.delay_seconds
        if self._as_json:
            self._print_json("listening", {"begin_delay": delay.begin, "end_delay": delay.end})
        else:
            say(f"{title} (reported at most {delay.begin:g} s after a beginning, {delay.end:g} s after an "
                "end)")

    def add(self, chunk: Chunk, printing: Callable[[], AbstractContextManager[None]]) -> None:
        """Add a chunk of the sound that was begun last, and print what is reported."""
        assert self._finder
        recording = self._recordings[-1]
        if self._is_now and recording.seconds is None:
            recording.start = datetime.now(timezone.utc).astimezone() - timedelta(seconds=chunk.end)
        recording.seconds = chunk.end
        self._report(self._finder.add(chunk.outputs.scores[None], [chunk.power]), printing)

    def end(self, printing: Callable[[], AbstractContextManager[None]]) -> None:
        """End the sound that was begun last."""
        if self._finder and (seconds := self._recordings[-1].seconds) is not None:
            self._report(self._finder.finish(seconds), printing)
        self._finder = None

    def write(self, has_failed: bool) -> None:
        """Write the file of --output, if there is one, and say so. Without any chunk, an earlier file
        stays. `has_failed`: a sound could not be read to its end."""
        from satexport.tagging.event_files import write_events

        if not self._file or not self._format:
            return
        if all(recording.seconds is None for recording in self._recordings):
            note(f"No chunk was scored: {self._file} was not written.")
            return
        table = self._table()
        write_events(self._file, self._format, table)
        note(f"Events: {sum(1 for _ in table.rows())}, in {self._file}")
        if has_failed and self._has_several and self._format.counts_through:
            note("Begin Time and End Time are wrong after the recording that failed, because its length is "
                 "not known; Begin Path and File Offset are right. Leave the recording out, and run again.")

    def _table(self) -> EventTable:
        from satexport.tagging.event_files import EventTable

        recordings = [recording for recording in self._recordings if recording.seconds is not None]
        resampler = {"resampler": "soxr HQ"} if any(found.name != "-" for found in recordings) else {}
        return EventTable(recordings=recordings, sample_rate=self._tagger.contract.sample_rate,
                          origin=self._origin | resampler)

    def _report(self, events: list[Event], printing: Callable[[], AbstractContextManager[None]]) -> None:
        if self._file:
            self._recordings[-1].events += [event for event in events if event.end is not None]
        with printing():
            for event in events:
                self._print(event)

    def _print(self, event: Event) -> None:
        from satexport.tagging.event_files import absolute, event_fields

        start = self._recordings[-1].start
        if self._as_json:
            self._print_json("ended" if event.end is not None else "began", event_fields(event, start))
            return
        time = f"{absolute(start, event.begin if event.end is None else event.end)}  " if start else ""
        what = f"began {event.begin:7.1f} s" if event.end is None else (
            f"ended {event.end:7.1f} s, after {event.end - event.begin:.1f} s")
        level = "" if event.level_dbfs is None else f"  {event.level_dbfs:.1f} dBFS"
        say(f"  {time}{what}  {event.label} {event.score:.3f}{level}")
        sys.stdout.flush()

    def _print_json(self, what: str, content: dict[str, Any]) -> None:
        click.echo(json.dumps({"event": what, "file": self._recordings[-1].name, **content}))
        sys.stdout.flush()


def read_options(flags: EventFlags, labels: Sequence[str]) -> EventOptions:
    """The options of events, with the content of the files that they name."""
    from satexport.bundle.thresholds import DEFAULT, read_thresholds
    from satexport.tagging.events import EventOptions
    from satexport.tagging.groups import read_groups

    found = read_thresholds(flags.thresholds, labels) if flags.thresholds else None
    on, off = (found.on, found.off) if found else (DEFAULT, None)
    if flags.threshold is not None:
        on, off = flags.threshold, None
    return EventOptions(
        on=on, off=off if flags.threshold_off is None else flags.threshold_off,
        thresholds=found.threshold if found else {}, least_seconds=flags.least or 0.0,
        bridge_seconds=flags.bridge or 0.0, smooth_chunks=flags.smooth or 1,
        groups=read_groups(flags.groups, labels) if flags.groups else {})


def _read_origin(flags: EventFlags, options: EventOptions, tagger: Tagger) -> dict[str, str]:
    """What decides the events, for a file of them."""
    from satexport.version import __version__

    bundle, off = tagger.bundle, options.on if options.off is None else options.off
    return {
        "model": bundle.contract.variant, "precision": bundle.target.precision,
        "bundle_sha256": bundle.sha256, "labels_sha256": bundle.contract.labels_sha256,
        "threshold": f"{options.on:g}", "threshold_off": f"{off:g}",
        "least": f"{options.least_seconds:g}", "bridge": f"{options.bridge_seconds:g}",
        "smooth": f"{options.smooth_chunks}",
        **hash_files(flags), "version": __version__}


def hash_files(flags: EventFlags) -> dict[str, str]:
    """The SHA-256 of the files that the options name, for results that depend on them."""
    from satexport.files import sha256_of

    files = {"thresholds_sha256": flags.thresholds, "groups_sha256": flags.groups}
    return {key: sha256_of(file) for key, file in files.items() if file}


def _read_start(text: str | None, names: list[str], is_live: bool) -> datetime | None:
    if text is None:
        return None
    if len(names) > 1:
        raise UsageError(f"--start {text}: is the time of one recording, there are {len(names)}. Run once "
                         "per recording.")
    if text == "now":
        if not is_live:
            raise UsageError("--start now: applies only to - and --mic. Pass the time at which the recording "
                             "began.")
        return None  # it is known when the first chunk is complete
    try:
        start = datetime.fromisoformat(text[:-1] + "+00:00" if text.endswith(("Z", "z")) else text)
        start + timedelta(days=FAR)  # the times of a recording must exist
        return start if start.tzinfo else start.astimezone()
    except (ValueError, OverflowError, OSError):
        raise UsageError(f"--start {text}: expected a time in ISO 8601, such as "
                         "2026-11-26T21:00:00+01:00.") from None


def _find_format(flags: EventFlags, names: list[str], tagger: Tagger, options: EventOptions) -> Format | None:
    """The format of --output, which can hold what is asked."""
    from satexport.tagging.event_files import check_format, find_format

    if flags.output is None:
        if flags.format_name:
            raise UsageError(f"--format {flags.format_name} applies to a file: add --output FILE, or leave "
                             "it out.")
        return None
    found = find_format(flags.output, flags.format_name)
    check_format(found, flags.output, names, list(options.groups or tagger.labels), flags.start is not None)
    return found
