"""`satexport run --events` as a user sees it."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from satexport.bundle.folder import open_bundle
from satexport.bundle.thresholds import OperatingPoint, Thresholds, write_thresholds
from satexport.files import sha256_of
from satexport.step import FloatArray
from satexport.tagging.events import EventOptions, find_events
from satexport.tagging.tagger import load
from tests.commands.calls import call, start
from tests.machine import PATIENCE, need

soundfile = need("soundfile", "audio")
RATE = 16_000  # Hz


@pytest.fixture(scope="module")
def noise() -> FloatArray:
    """Silence, 4 s of white noise of -20 dBFS, silence: 11 s, which the demo hears as White noise."""
    sound = np.zeros(11 * RATE, np.float32)
    sound[4 * RATE:8 * RATE] = np.random.default_rng(0).normal(0, 0.1, 4 * RATE)
    return sound


@pytest.fixture
def wav(tmp_path: Path, noise: FloatArray) -> Path:
    soundfile.write(tmp_path / "noise.wav", noise, RATE, subtype="FLOAT")
    return tmp_path / "noise.wav"


@pytest.fixture
def only(tmp_path: Path) -> Path:
    """A file of groups that reports noise only."""
    (tmp_path / "groups.toml").write_text('[group."Noise"]\nlabels = ["White noise", "Pink noise"]\n')
    return tmp_path / "groups.toml"


def lines(text: str) -> list[dict[str, Any]]:
    return [json.loads(line) for line in text.splitlines()]


def test_events_are_printed_when_they_begin_and_when_they_end(demo: Path, wav: Path, only: Path) -> None:
    result = call("run", demo, wav, "--events", "--groups", only)
    assert (result.code, result.err) == (0, "")
    head, began, over = result.out.splitlines()
    assert head == f"{wav} (reported at most 2 s after a beginning, 2 s after an end)"
    assert began.startswith("  began     4.0 s  Noise 0.")
    assert over.startswith("  ended     8.0 s, after 4.0 s  Noise 0.")
    assert began.endswith("  -20.0 dBFS")


def test_json_lines_have_level_and_absolute_time(demo: Path, wav: Path, only: Path) -> None:
    found = lines(call("run", demo, wav, "--events", "--groups", only, "--json", "--bridge", 2,
                       "--start", "2026-11-26T21:00:00Z").out)
    assert found[0] == {"event": "listening", "file": str(wav), "begin_delay": 2.0, "end_delay": 4.0}
    began, over = found[1:]
    assert began.items() >= {"event": "began", "file": str(wav), "label": "Noise", "start": 4.0,
                             "level_dbfs": -20.0,
                             "start_datetime": "2026-11-26T21:00:04.000+00:00"}.items()
    assert "end" not in began
    assert over.items() >= {"event": "ended", "start": 4.0, "end": 8.0,
                            "level_dbfs": -20.0, "end_datetime": "2026-11-26T21:00:08.000+00:00"}.items()
    assert 0.5 <= over["mean_score"] <= over["score"] <= 1


def test_the_events_are_those_of_the_scores(demo: Path, wav: Path, noise: FloatArray) -> None:
    stream = load(demo).stream()
    scores = np.concatenate([stream.feed(noise), stream.flush()])
    expected = find_events(load(demo).labels, 2.0, EventOptions(on=0.2, off=0.1, smooth_chunks=3), scores,
                           end_seconds=11)
    assert len(expected) > 2
    found = lines(call("run", demo, wav, "--events", "--json", "--threshold", 0.2, "--threshold-off", 0.1,
                       "--smooth", 3).out)
    assert [(line["label"], line["start"], line["end"]) for line in
            sorted((line for line in found if line["event"] == "ended"), key=lambda line: line["start"])
            ] == [(event.label, event.begin, event.end) for event in expected]


def test_several_sounds_go_into_one_file_and_a_bad_one_does_not_stop_the_others(
        demo: Path, wav: Path, only: Path, tmp_path: Path) -> None:
    (tmp_path / "bad.wav").write_text("text")
    result = call("run", demo, wav, tmp_path / "bad.wav", wav, "--events", "--groups", only, "-o",
                  tmp_path / "new" / "a.tsv")
    assert (result.code, result.err.splitlines()[-1]) == (4, f"Events: 2, in {tmp_path / 'new' / 'a.tsv'}")
    assert (tmp_path / "new" / "a.tsv").read_text() == (
        f"filename\tonset\toffset\tevent_label\n{wav}\t4.0\t8.0\tNoise\n{wav}\t4.0\t8.0\tNoise\n")


def test_after_a_recording_that_failed_it_is_said_that_times_of_raven_are_wrong(
        tiny: Path, wav: Path, tmp_path: Path) -> None:
    bad, file = tmp_path / "bad.wav", tmp_path / "a.selection.table.txt"
    bad.write_text("text")
    assert "Begin Time and End Time are wrong" in call("run", tiny, bad, wav, "--events", "-o", file).err
    assert "Begin Time" not in call("run", tiny, wav, wav, "--events", "-o", file).err
    assert "Begin Time" not in call("run", tiny, bad, wav, "--events", "-o", tmp_path / "a.csv").err


def test_a_file_says_which_bundle_heard_it(demo: Path, wav: Path, only: Path, tmp_path: Path) -> None:
    assert call("run", demo, wav, "--events", "--groups", only, "--threshold", 0.4, "--threshold-off", 0.3,
                "--bridge", 2, "--smooth", 3, "-o", tmp_path / "a.jsonl").code == 0
    line, = lines((tmp_path / "a.jsonl").read_text())
    assert line.items() >= {"threshold": "0.4", "threshold_off": "0.3", "least": "0", "bridge": "2",
                            "smooth": "3", "groups_sha256": sha256_of(only)}.items()
    assert "thresholds_sha256" not in line
    assert line.items() >= {"file": str(wav), "model": "sat-t-2s", "precision": "fp32",
                            "bundle_sha256": open_bundle(demo).sha256}.items()


def test_nothing_is_written_if_no_chunk_was_scored(demo: Path, tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text("mine")
    result = call("run", demo, tmp_path / "gone.wav", "--events", "-o", tmp_path / "a.csv")
    assert (result.code, "No chunk was scored" in result.err) == (4, True)
    assert (tmp_path / "a.csv").read_text() == "mine"


def test_thresholds_of_a_file_decide_and_those_of_other_labels_are_refused(
        demo: Path, wav: Path, tmp_path: Path) -> None:
    bundle, file = open_bundle(demo), tmp_path / "t.toml"
    points = {label: OperatingPoint(on=1.0) for label in bundle.labels if label != "White noise"}
    write_thresholds(file, Thresholds(labels_sha256=bundle.contract.labels_sha256, threshold=points))
    found = lines(call("run", demo, wav, "--events", "--json", "--thresholds", file).out)
    assert {line.get("label") for line in found} == {None, "White noise"}
    write_thresholds(file, Thresholds(labels_sha256="0" * 64))
    result = call("run", demo, wav, "--events", "--thresholds", file)
    assert (result.code, result.out, "for other labels" in result.err) == (4, "", True)


def test_a_group_of_unknown_labels_is_refused(demo: Path, wav: Path, tmp_path: Path) -> None:
    (tmp_path / "g.toml").write_text('[group.A]\nlabels = ["white noise"]')
    result = call("run", demo, wav, "--events", "--groups", tmp_path / "g.toml")
    assert (result.code, result.out) == (4, "")
    assert "similar ones are 'White noise'" in result.err


@pytest.mark.parametrize(("words", "message"), [
    (("--threshold", 0.5), "--threshold applies only to events"),
    (("--least", 2), "--least applies only to events"), (("-o", "a.csv"), "--output applies only to events"),
    (("--format", "csv"), "--format applies only to events"),
    (("--events", "--top", 3), "--top applies to the tags of chunks"),
    (("--events", "--format", "csv"), "add --output FILE"),
    (("--events", "-o", "a.xyz"), "its ending is that of no format"),
    (("--events", "-o", "a.txt", "second.wav"), "holds the events of one recording, not of 2"),
    (("--events", "-o", "a.txt", "--start", "2026-11-26"), "no column for absolute time"),
    (("--events", "--start", "yesterday"), "expected a time in ISO 8601"),
    (("--events", "--start", "now"), "applies only to - and --mic"),
    (("--events", "--start", "2026-11-26", "second.wav"), "is the time of one recording"),
    (("--events", "--smooth", 2), "expected an odd number"),
    (("--events", "--threshold", 0), "--threshold"), (("--events", "--bridge", "nan"), "--bridge"),
    (("--events", "--threshold-off", 0.6), "at most 0.5"),
    (("--events", "--groups", "gone.toml"), "no such file"), (("--mic",), "not both")])
def test_wrong_use_is_refused_before_the_work(
        words: tuple[object, ...], message: str, tiny: Path, wav: Path, tmp_path: Path,
        monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    result = call("run", tiny, wav, *words)
    assert (result.code, result.out) == (2, "")
    assert message in result.err
    assert {path.name for path in tmp_path.iterdir()} == {"noise.wav"}


def test_audio_or_a_microphone_is_needed(tiny: Path) -> None:
    result = call("run", tiny)
    assert (result.code, "expected files, -, or --mic." in result.err) == (2, True)


def test_a_file_is_not_written_over_a_sound_or_into_the_bundle(tiny: Path, wav: Path, tmp_path: Path) -> None:
    sound = wav.rename(tmp_path / "sound.csv")
    for file in (sound, tiny / "a.csv"):
        result = call("run", tiny, sound, "--events", "-o", file)
        assert (result.code, result.out) == (2, "")


def test_parquet_without_its_package_names_the_extra_before_the_work(
        tiny: Path, wav: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    result = call("run", tiny, wav, "--events", "-o", wav.with_suffix(".parquet"))
    assert (result.code, result.out) == (3, "")
    assert "pip install 'satexport[batch]'" in result.err


@pytest.mark.skipif(sys.platform == "win32", reason="needs signals of POSIX")
def test_ctrl_c_ends_the_events_of_standard_input_and_the_file_is_written(
        demo: Path, noise: FloatArray, only: Path, tmp_path: Path) -> None:
    process = start("run", demo, "-", "--events", "--groups", only, "--json", "--start", "now", "-o",
                    tmp_path / "a.jsonl", stdin=subprocess.PIPE,  # a background job may ignore SIGINT
                    before="import signal; signal.signal(signal.SIGINT, signal.default_int_handler)")
    assert process.stdin
    assert process.stdout
    before = datetime.now(timezone.utc)
    os.write(process.stdin.fileno(), (noise[:6 * RATE] * 32767).astype("<i2").tobytes())
    assert lines(process.stdout.readline())[0]["event"] == "listening"
    began = lines(process.stdout.readline())[0]
    assert (began["event"], began["start"]) == ("began", 4.0)
    assert abs((datetime.fromisoformat(began["start_datetime"]) - before).total_seconds()) < PATIENCE
    process.send_signal(signal.SIGINT)
    out, _ = process.communicate(timeout=PATIENCE)
    over, = lines(out)
    assert (over["event"], over["start"], over["end"], process.returncode) == ("ended", 4.0, 6.0, 130)
    line, = lines((tmp_path / "a.jsonl").read_text())
    assert (line["file"], line["end"]) == ("-", 6.0)
    assert "resampler" not in line


@pytest.mark.parametrize(("option", "name"), [("--thresholds", "t.toml"), ("--groups", "g.toml")])
def test_a_file_that_is_read_is_not_written(demo: Path, tmp_path: Path, option: str, name: str) -> None:
    file = tmp_path / name
    if option == "--groups":
        file.write_text('[group."Pets"]\nlabels = ["Dog"]\n')
    else:
        write_thresholds(file, Thresholds(labels_sha256=open_bundle(demo).contract.labels_sha256))
    before = file.read_bytes()
    result = call("run", demo, tmp_path / "absent.wav", "--events", option, file, "-o", file,
                  "--format", "csv")
    assert (result.code, "is one of the files that are read" in result.err) == (2, True), result.err
    assert file.read_bytes() == before


def test_a_time_whose_end_does_not_exist_is_refused(demo: Path, tmp_path: Path) -> None:
    result = call("run", demo, tmp_path / "absent.wav", "--events", "--start", "9999-12-31T23:59:59Z")
    assert (result.code, "expected a time in ISO 8601" in result.err) == (2, True), result.err
