"""Files of events, in the formats that other programs open. Imports only numpy, and pyarrow for Parquet."""

from __future__ import annotations

import csv
import io
import json
import os
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import Any

from satexport.audio.labels import audioset_mids
from satexport.errors import UsageError, requires_extra
from satexport.files import write_bytes
from satexport.tagging.events import Event, ended
from satexport.terminal import shown

COLUMN_BREAKS = re.compile("[\t\n\r]")


@dataclass(kw_only=True)
class Recording:
    """A sound and what was heard in it."""

    name: str
    start: datetime | None = None               # when it began, with a time zone; None: not known
    events: list[Event] = field(default_factory=list)  # reports of an `EventFinder`
    seconds: float | None = None                # that were scored; None: no chunk

    def rows(self) -> list[Event]:
        """Its events that have ended, by their beginnings."""
        return ended(self.events)


@dataclass(frozen=True, kw_only=True)
class EventTable:
    """The events of recordings, and where they come from."""

    recordings: Sequence[Recording]
    sample_rate: int                # Hz, of the model
    origin: Mapping[str, str]       # satexport, model, bundle_sha256 and others

    def rows(self) -> Iterator[tuple[Recording, Event]]:
        for recording in self.recordings:
            for event in recording.rows():
                yield recording, event


@dataclass(frozen=True, kw_only=True)
class Format:
    """A format of files."""

    ending: str
    render: Callable[[EventTable], bytes]
    holds_several: bool = True      # recordings
    holds_time: bool = False        # absolute time
    is_tab_separated: bool = False  # without quotes
    counts_through: bool = False    # its times go on from one recording to the next


def find_format(file: Path, name: str | None) -> Format:
    """The format of this name, or that of the file's ending. Raises `UsageError` if there is none."""
    if name:
        return FORMATS[name]
    for found in FORMATS.values():
        if file.name.endswith(found.ending):
            return found
    endings = ", ".join(f"{found.ending} ({name})" for name, found in FORMATS.items())
    raise UsageError(f"--output {file}: its ending is that of no format; expected one of {endings}. Rename "
                     "it, or choose a format with --format NAME.")


def check_format(found: Format, file: Path, names: Sequence[str], labels: Sequence[str],
                 has_start: bool) -> None:
    """Raise `UsageError` if a format cannot hold recordings with these names, these labels, or the absolute
    time; `MissingError` if its package is not installed."""
    several = ", ".join(name for name, other in FORMATS.items() if other.holds_several)
    if len(names) > 1 and not found.holds_several:
        raise UsageError(f"--output {file}: {found.ending} holds the events of one recording, not of "
                         f"{len(names)}. Run once per recording, or choose another format: {several}.")
    if has_start and not found.holds_time:
        timed = ", ".join(name for name, other in FORMATS.items() if other.holds_time)
        raise UsageError(f"--output {file}: {found.ending} has no column for absolute time. Leave --start "
                         f"out, or choose another format: {timed}.")
    names = [_begin_path(name) for name in names] if found.counts_through else names
    written = [*(names if found.holds_several else ()), *labels]
    if found.is_tab_separated and (bad := [name for name in written if COLUMN_BREAKS.search(name)]):
        raise UsageError(f"--output {file}: {found.ending} cannot hold {shown(bad[0])}, because tabs and "
                         "line breaks separate its columns and rows. Rename it, or choose .jsonl.")
    if found.render is _parquet:
        _import_pyarrow()


def write_events(file: Path, found: Format, table: EventTable) -> None:
    """Write a file completely or not at all. Raises `RunError` if it cannot be written."""
    write_bytes(file, found.render(table))


def event_fields(event: Event, start: datetime | None) -> dict[str, Any]:
    """An event as JSON has it: times in seconds, rounded to a microsecond; scores to six digits; absolute
    times only if it is known when the recording began; "end" only if the event has ended."""
    fields: dict[str, Any] = {"label": event.label, "start": _round(event.begin)}
    if event.end is not None:
        fields["end"] = _round(event.end)
    fields |= {"score": round(event.score, 6), "mean_score": round(event.mean_score, 6),
               "level_dbfs": None if event.level_dbfs is None else round(event.level_dbfs, 1)}
    if start:
        fields["start_datetime"] = absolute(start, event.begin)
        if event.end is not None:
            fields["end_datetime"] = absolute(start, event.end)
    return fields


def absolute(start: datetime, seconds: float) -> str:
    """An absolute time in ISO 8601, to a millisecond."""
    return (start + timedelta(seconds=seconds)).isoformat(timespec="milliseconds")


def _round(seconds: float) -> float:
    return round(seconds, 6)


def _jsonl(table: EventTable) -> bytes:
    rows = ({"file": recording.name, **event_fields(event, recording.start), **table.origin}
            for recording, event in table.rows())
    return "".join(f"{json.dumps(row)}\n" for row in rows).encode()


CSV_COLUMNS = (
    "Start (s)", "End (s)", "Scientific name", "Common name", "Confidence", "File",  # as BirdNET's
    "Mean score", "Level (dBFS)", "Start time", "End time", "Model", "Bundle SHA-256")


def _csv(table: EventTable) -> bytes:
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(CSV_COLUMNS)
    for recording, event in table.rows():
        fields = event_fields(event, recording.start)
        level = "" if event.level_dbfs is None else f"{event.level_dbfs:.1f}"
        times = [fields.get(f"{which}_datetime", "") for which in ("start", "end")]
        writer.writerow([
            fields["start"], fields["end"], event.label, event.label, f"{event.score:.4f}", recording.name,
            f"{event.mean_score:.4f}", level, *times, table.origin["model"], table.origin["bundle_sha256"]])
    return _encode(text.getvalue())


def _tsv(table: EventTable) -> bytes:
    """A recording in which nothing was heard has a row with its name only, as DCASE has it."""
    rows: list[tuple[object, ...]] = []
    for recording in table.recordings:
        rows += [(recording.name, _round(event.begin), _round(event.end or 0), event.label)
                 for event in recording.rows()] or [(recording.name, "", "", "")]
    return _tabbed([("filename", "onset", "offset", "event_label"), *rows])


def _audacity(table: EventTable) -> bytes:
    return _tabbed([(f"{event.begin:.6f}", f"{event.end:.6f}", event.label) for _, event in table.rows()])


RAVEN_COLUMNS = ("Selection", "View", "Channel", "Begin Time (s)", "End Time (s)", "Low Freq (Hz)",
                 "High Freq (Hz)", "Common Name", "Species Code", "Confidence", "Begin Path",
                 "File Offset (s)")


def _raven(table: EventTable) -> bytes:
    """Begin and end count through all recordings, opened in this order; the offset is in the file."""
    rows: list[tuple[object, ...]] = [RAVEN_COLUMNS]
    before = 0.0  # s
    for recording in table.recordings:
        path = _begin_path(recording.name)
        for event in recording.rows():
            assert event.end is not None
            rows.append((len(rows), "Spectrogram 1", 1, _round(before + event.begin),
                         _round(before + event.end), 0, table.sample_rate // 2, event.label, event.label,
                         f"{event.score:.4f}", path, _round(event.begin)))
        before += recording.seconds or 0.0
    return _tabbed(rows)


def _begin_path(name: str) -> str:
    """Where Raven finds a recording."""
    return os.path.abspath(name) if os.path.exists(name) else name


def _tabbed(rows: Sequence[Sequence[object]]) -> bytes:
    return _encode("".join("\t".join(map(str, row)) + "\n" for row in rows))


def _encode(text: str) -> bytes:
    return text.encode("utf-8", errors="backslashreplace")  # file names may not be valid UTF-8


def _import_pyarrow() -> tuple[Any, Any]:
    with requires_extra("batch"):
        import pyarrow
        import pyarrow.parquet
    return pyarrow, pyarrow.parquet


def _parquet(table: EventTable) -> bytes:
    """Columns as BirdNET's tables have them, and more; the origin is in the metadata of the schema."""
    arrow, parquet = _import_pyarrow()
    mids = {label: mid for mid, label in audioset_mids().items()}
    rows = list(table.rows())
    words, time = arrow.dictionary(arrow.int32(), arrow.string()), arrow.timestamp("us", tz="UTC")
    number = arrow.float32()

    def times(which: Callable[[Event], float]) -> list[datetime | None]:
        return [recording.start and recording.start.astimezone(timezone.utc) + timedelta(seconds=which(event))
                for recording, event in rows]

    columns: dict[str, tuple[Any, Sequence[Any]]] = {
        "input": (words, [_encode(recording.name).decode() for recording, _ in rows]),
        "start_time": (number, [event.begin for _, event in rows]),
        "end_time": (number, [event.end for _, event in rows]),
        "label": (words, [event.label for _, event in rows]),
        "mid": (words, [mids.get(event.label) for _, event in rows]),
        "score": (number, [event.score for _, event in rows]),
        "mean_score": (number, [event.mean_score for _, event in rows]),
        "level_dbfs": (number, [event.level_dbfs for _, event in rows]),
        "start_datetime": (time, times(lambda event: event.begin)),
        "end_datetime": (time, times(lambda event: event.end or 0)),
    }
    schema = arrow.schema([(name, kind) for name, (kind, _) in columns.items()],
                          metadata={f"satexport.{key}": value for key, value in table.origin.items()})
    content = arrow.table([arrow.array(values, kind) for kind, values in columns.values()], schema=schema)
    file = io.BytesIO()
    parquet.write_table(content, file, compression="zstd")
    return file.getvalue()


FORMATS: dict[str, Format] = {  # name -> format; an ending that ends like another one comes before it
    "jsonl": Format(ending=".jsonl", render=_jsonl, holds_time=True),
    "csv": Format(ending=".csv", render=_csv, holds_time=True),
    "parquet": Format(ending=".parquet", render=_parquet, holds_time=True),
    "dcase": Format(ending=".tsv", render=_tsv, is_tab_separated=True),
    "raven": Format(ending=".selection.table.txt", render=_raven, is_tab_separated=True,
                    counts_through=True),
    "audacity": Format(ending=".txt", render=_audacity, is_tab_separated=True,
                       holds_several=False),
}
