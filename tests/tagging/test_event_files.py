"""Files of events, byte by byte as the programs that open them expect."""

from __future__ import annotations

import json
import sys
from datetime import datetime, timedelta, timezone
from pathlib import Path

import pytest

from satexport.commands.run_events import FORMAT_NAMES
from satexport.errors import RunError, UsageError
from satexport.tagging.event_files import (
    FORMATS,
    EventTable,
    Recording,
    check_format,
    find_format,
    write_events,
)
from satexport.tagging.events import Event
from tests.commands.calls import no_file_longer_than
from tests.machine import need, needs_utf8_names

START = datetime(2026, 11, 26, 21, 0, 0, tzinfo=timezone(timedelta(hours=1)))
BARK = Event(label="Bark", begin=2.0, end=6.0, score=0.91234567, mean_score=0.8, level_dbfs=-23.456)
ALARM = Event(label="Smoke detector, smoke alarm", begin=0.0, end=7.5, score=0.5, mean_score=0.5,
              level_dbfs=None)
ORIGIN = {"model": "sat-t-2s", "bundle_sha256": "ab12", "version": "1"}


def table(start: datetime | None = None) -> EventTable:
    """Two recordings; in the first, an event that lasts and one that begins before but ends after another."""
    first = Recording(name="a/dog.wav", start=start, seconds=7.5, events=[
        Event(label="Bark", begin=2.0, end=None, score=0.9, mean_score=0.9, level_dbfs=None), BARK, ALARM])
    return EventTable(recordings=[first, Recording(name="rain.flac", seconds=4, events=[BARK])],
                      sample_rate=16_000, origin=ORIGIN)


def written(tmp_path: Path, name: str, content: EventTable) -> str:
    write_events(tmp_path / name, find_format(tmp_path / name, None), content)
    return (tmp_path / name).read_bytes().decode()


def test_a_raven_table_counts_through_all_recordings(tmp_path: Path) -> None:
    assert written(tmp_path, "a.selection.table.txt", table()) == (
        "Selection\tView\tChannel\tBegin Time (s)\tEnd Time (s)\tLow Freq (Hz)\tHigh Freq (Hz)\tCommon Name\t"
        "Species Code\tConfidence\tBegin Path\tFile Offset (s)\n"
        "1\tSpectrogram 1\t1\t0.0\t7.5\t0\t8000\tSmoke detector, smoke alarm\tSmoke detector, smoke alarm\t"
        "0.5000\ta/dog.wav\t0.0\n"
        "2\tSpectrogram 1\t1\t2.0\t6.0\t0\t8000\tBark\tBark\t0.9123\ta/dog.wav\t2.0\n"
        "3\tSpectrogram 1\t1\t9.5\t13.5\t0\t8000\tBark\tBark\t0.9123\train.flac\t2.0\n")


def test_a_label_track_of_audacity_has_no_head(tmp_path: Path) -> None:
    one = EventTable(recordings=table().recordings[:1], sample_rate=16_000, origin=ORIGIN)
    assert written(tmp_path, "a.txt", one) == (
        "0.000000\t7.500000\tSmoke detector, smoke alarm\n2.000000\t6.000000\tBark\n")


def test_a_table_of_dcase_has_its_four_columns(tmp_path: Path) -> None:
    assert written(tmp_path, "a.tsv", table()) == (
        "filename\tonset\toffset\tevent_label\n"
        "a/dog.wav\t0.0\t7.5\tSmoke detector, smoke alarm\n"
        "a/dog.wav\t2.0\t6.0\tBark\n"
        "rain.flac\t2.0\t6.0\tBark\n")


def test_a_csv_begins_with_the_columns_of_birdnet(tmp_path: Path) -> None:
    assert written(tmp_path, "a.csv", table(START)) == (
        "Start (s),End (s),Scientific name,Common name,Confidence,File,"
        "Mean score,Level (dBFS),Start time,End time,Model,Bundle SHA-256\n"
        '0.0,7.5,"Smoke detector, smoke alarm","Smoke detector, smoke alarm",0.5000,a/dog.wav,'
        "0.5000,,2026-11-26T21:00:00.000+01:00,2026-11-26T21:00:07.500+01:00,sat-t-2s,ab12\n"
        "2.0,6.0,Bark,Bark,0.9123,a/dog.wav,"
        "0.8000,-23.5,2026-11-26T21:00:02.000+01:00,2026-11-26T21:00:06.000+01:00,sat-t-2s,ab12\n"
        "2.0,6.0,Bark,Bark,0.9123,rain.flac,0.8000,-23.5,,,sat-t-2s,ab12\n")


def test_json_lines_have_an_event_each_and_where_it_comes_from(tmp_path: Path) -> None:
    lines = [json.loads(line) for line in written(tmp_path, "a.jsonl", table(START)).splitlines()]
    assert lines[1] == {
        "file": "a/dog.wav", "label": "Bark", "start": 2.0, "end": 6.0, "score": 0.912346, "mean_score": 0.8,
        "level_dbfs": -23.5, "start_datetime": "2026-11-26T21:00:02.000+01:00",
        "end_datetime": "2026-11-26T21:00:06.000+01:00", **ORIGIN}
    assert [(line["file"], line["start"]) for line in lines] == [
        ("a/dog.wav", 0.0), ("a/dog.wav", 2.0), ("rain.flac", 2.0)]
    assert "start_datetime" not in lines[2]


def test_a_parquet_file_has_the_columns_of_birdnet_more_and_its_origin(tmp_path: Path) -> None:
    parquet = need("pyarrow.parquet", "batch")
    write_events(tmp_path / "a.parquet", FORMATS["parquet"], table(START))
    file = parquet.ParquetFile(tmp_path / "a.parquet")
    found = file.read()
    assert {name: str(found.schema.field(name).type) for name in found.column_names} == {
        "input": "dictionary<values=string, indices=int32, ordered=0>",
        "start_time": "float", "end_time": "float",
        "label": "dictionary<values=string, indices=int32, ordered=0>",
        "mid": "dictionary<values=string, indices=int32, ordered=0>",
        "score": "float", "mean_score": "float", "level_dbfs": "float",
        "start_datetime": "timestamp[us, tz=UTC]", "end_datetime": "timestamp[us, tz=UTC]"}
    assert found.column("input").to_pylist() == ["a/dog.wav", "a/dog.wav", "rain.flac"]
    assert found.column("start_time").to_pylist() == [0.0, 2.0, 2.0]
    assert found.column("mid").to_pylist() == ["/m/01y3hg", "/m/05tny_", "/m/05tny_"]
    assert found.column("level_dbfs").to_pylist() == [None, pytest.approx(-23.456), pytest.approx(-23.456)]
    assert found.column("start_datetime").cast("int64").to_pylist() == [
        round(START.timestamp() * 1e6), round(START.timestamp() * 1e6) + 2_000_000, None]
    metadata = found.schema.metadata
    assert metadata[b"satexport.bundle_sha256"] == b"ab12"
    assert file.metadata.row_group(0).column(0).compression == "ZSTD"


@pytest.mark.parametrize(("name", "empty"), [
    ("a.jsonl", 0), ("a.csv", 1), ("a.txt", 0), ("a.selection.table.txt", 1)])
def test_a_file_without_events_has_at_most_a_head(name: str, empty: int, tmp_path: Path) -> None:
    nothing = EventTable(recordings=[Recording(name="a.wav", seconds=2)], sample_rate=16_000, origin=ORIGIN)
    assert written(tmp_path, name, nothing).count("\n") == empty


def test_a_recording_in_which_nothing_was_heard_is_a_row_of_dcase(tmp_path: Path) -> None:
    nothing = EventTable(recordings=[Recording(name="a.wav", seconds=2)], sample_rate=16_000, origin=ORIGIN)
    assert written(tmp_path, "a.tsv", nothing) == "filename\tonset\toffset\tevent_label\na.wav\t\t\t\n"


def test_raven_finds_a_recording_by_its_absolute_path_which_must_not_have_tabs(
        tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("a.wav").touch()
    one = EventTable(recordings=[Recording(name="a.wav", seconds=9, events=[BARK])], sample_rate=16_000,
                     origin=ORIGIN)
    assert f"\t{tmp_path / 'a.wav'}\t2.0\n" in written(tmp_path, "a.selection.table.txt", one)
    check_format(FORMATS["raven"], Path("a.x"), ["a.wav"], ["Dog"], False)
    if sys.platform != "win32":  # which has no such names
        Path("a\tb").mkdir()
        monkeypatch.chdir("a\tb")
        Path("a.wav").touch()
        with pytest.raises(UsageError, match=r"selection\.table\.txt cannot hold .*because tabs"):
            check_format(FORMATS["raven"], Path("a.x"), ["a.wav"], ["Dog"], False)


@needs_utf8_names
def test_a_name_that_is_not_utf8_is_escaped(tmp_path: Path) -> None:
    strange = EventTable(recordings=[Recording(name="\udcff.wav", seconds=9, events=[BARK])],
                         sample_rate=16_000, origin=ORIGIN)
    assert "\n\\udcff.wav\t2.0" in written(tmp_path, "a.tsv", strange)
    if need("pyarrow", "batch"):
        write_events(tmp_path / "a.parquet", FORMATS["parquet"], strange)


@pytest.mark.parametrize("name", ["a.csv", "a.parquet"])
def test_a_file_that_cannot_be_completed_leaves_the_earlier_one(name: str, tmp_path: Path) -> None:
    if name == "a.parquet":
        need("pyarrow", "batch")
    (tmp_path / name).write_text("mine")
    with no_file_longer_than(100), pytest.raises(RunError, match="cannot be written"):
        write_events(tmp_path / name, find_format(tmp_path / name, None), table())
    assert [(path.name, path.read_text()) for path in tmp_path.iterdir()] == [(name, "mine")]


def test_the_ending_says_the_format_and_a_name_overrules_it() -> None:
    assert tuple(FORMATS) == FORMAT_NAMES
    assert [find_format(Path(name), None).ending for name in
            ("x.csv", "x.txt", "x.selection.table.txt", "x.selections.txt")] == [
        ".csv", ".txt", ".selection.table.txt", ".txt"]
    assert find_format(Path("x.txt"), "raven") is FORMATS["raven"]
    with pytest.raises(UsageError, match=r"expected one of \.jsonl \(jsonl\), \.csv"):
        find_format(Path("x.xlsx"), None)


@pytest.mark.parametrize(("name", "names", "labels", "has_start", "message"), [
    ("audacity", ["a", "b"], ["Dog"], False, "holds the events of one recording, not of 2"),
    ("audacity", ["a"], ["Dog"], True, "no column for absolute time"),
    ("raven", ["a"], ["Dog"], True, "another format: jsonl, csv, parquet"),
    ("dcase", ["a"], ["Dog"], True, "no column for absolute time"),
    ("dcase", ["a\tb"], ["Dog"], False, r"cannot hold 'a\\tb'"),
    ("raven", ["a\nb"], ["Dog"], False, r"cannot hold 'a\\nb'"),
    ("audacity", ["a"], ["Dog\r"], False, r"cannot hold 'Dog\\r'")])
def test_a_format_that_cannot_hold_what_is_asked_is_refused(
        name: str, names: list[str], labels: list[str], has_start: bool, message: str) -> None:
    with pytest.raises(UsageError, match=message):
        check_format(FORMATS[name], Path("a.x"), names, labels, has_start)


def test_audacity_takes_a_recording_of_any_name() -> None:
    check_format(FORMATS["audacity"], Path("a.txt"), ["a\tb"], ["Dog"], False)
