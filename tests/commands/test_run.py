"""`satexport run` as a user sees it."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from satexport.backends.backend import LoadOptions, load_step
from satexport.bundle.contract import RANDOM_WEIGHTS
from satexport.bundle.folder import Bundle
from satexport.step import FloatArray, Step
from tests.bundle.copies import copy_of
from tests.commands.calls import START, call, start
from tests.machine import PATIENCE, need, needs_dev_full

soundfile = need("soundfile", "audio")
RATE = 16_000  # Hz


@pytest.fixture
def wav(tmp_path: Path, audio: FloatArray) -> Path:
    """Seven seconds of audio: three full chunks of 2 s and half a chunk."""
    soundfile.write(tmp_path / "seven.wav", audio[:7 * RATE], RATE, subtype="PCM_16")
    return tmp_path / "seven.wav"


def lines(text: str) -> list[dict[str, Any]]:
    return [json.loads(line) for line in text.splitlines()]


def test_tags_of_a_file_are_printed_one_line_per_chunk(demo: Path, wav: Path) -> None:
    result = call("run", demo, wav, "--top", 2)
    assert (result.code, result.err) == (0, "")
    name, *rows = result.out.splitlines()
    assert name == str(wav)
    assert [row.split(" s  ")[0].split() for row in rows] == [
        ["0.0", "-", "2.0"], ["2.0", "-", "4.0"], ["4.0", "-", "6.0"], ["6.0", "-", "7.0"]]


def test_json_lines_cover_the_whole_file_and_are_the_only_output(demo: Path, wav: Path) -> None:
    result = call("run", demo, wav, "--json", "--top", 5)
    assert (result.code, result.err) == (0, "")
    found = lines(result.out)
    assert [(line["start"], line["end"]) for line in found] == [(0, 2), (2, 4), (4, 6), (6, 7)]
    assert [line["window_start"] for line in found] == [0, 2, 4, 6]
    for line in found:
        scores = [tag["score"] for tag in line["tags"]]
        assert line["file"] == str(wav)
        assert len(scores) == 5
        assert scores == sorted(scores, reverse=True)
        assert 0 <= scores[-1] <= scores[0] <= 1


def test_the_times_of_a_window_are_those_of_its_new_audio_and_json_has_its_start(
        random_window: Path, tmp_path: Path, audio: FloatArray) -> None:
    soundfile.write(tmp_path / "long.wav", audio[:round(12.5 * RATE)], RATE)
    found = lines(call("run", random_window, tmp_path / "long.wav", "--json").out)
    assert [line["start"] for line in found] == list(range(13))
    assert [line["end"] for line in found] == [*range(1, 13), 12.5]
    assert [line["window_start"] for line in found] == [0] * 10 + [1, 2, 3]
    text = call("run", random_window, tmp_path / "long.wav").out.splitlines()
    assert text[0] == f"{tmp_path / 'long.wav'} (a window of the last 10 s every 1 s)"
    assert text[-1].split(" s  ")[0].split() == ["12.0", "-", "12.5"]


def test_the_demo_recognizes_white_noise(demo: Path, tmp_path: Path) -> None:
    noise = np.random.default_rng(0).normal(0, 0.1, 4 * RATE)
    soundfile.write(tmp_path / "noise.wav", noise, RATE)
    found = lines(call("run", demo, tmp_path / "noise.wav", "--json").out)
    assert [line["tags"][0]["label"] for line in found] == ["White noise"] * 2


def test_pcm_on_standard_input_is_scored_like_the_same_audio_in_a_file(demo: Path, wav: Path) -> None:
    pcm, _ = soundfile.read(wav, dtype="int16")
    piped = lines(call("run", demo, "-", "--json", stdin=pcm.tobytes()).out)
    filed = lines(call("run", demo, wav, "--json").out)
    assert piped == [line | {"file": "-"} for line in filed]


def test_a_file_on_standard_input_exits_with_4_and_advice(demo: Path, wav: Path) -> None:
    result = call("run", demo, "-", stdin=wav.read_bytes())
    assert (result.code, result.out) == (4, "standard input, mono 16-bit PCM at 16000 Hz\n")
    assert "starts like a file of type WAV" in result.err
    assert "ffmpeg: -f s16le -ar 16000 -ac 1" in result.err


@pytest.mark.skipif(not Path("/dev/fd").exists(), reason="needs /dev/fd")
def test_a_pipe_is_scored_like_a_file(demo: Path, wav: Path) -> None:
    reading, writing = os.pipe()
    with os.fdopen(reading), subprocess.Popen(["cat", wav], stdout=writing):
        os.close(writing)
        result = call("run", demo, f"/dev/fd/{reading}", "--json")
    assert (result.code, result.err) == (0, "")
    filed = lines(call("run", demo, wav, "--json").out)
    assert lines(result.out) == [line | {"file": f"/dev/fd/{reading}"} for line in filed]


def test_warnings_about_a_file_are_printed_to_standard_error(demo: Path, tmp_path: Path) -> None:
    noise = np.random.default_rng(0).normal(0, 0.1, 2 * RATE)
    soundfile.write(tmp_path / "a.wav", np.stack([noise, -noise], 1), RATE)
    content = (tmp_path / "a.wav").read_bytes()
    (tmp_path / "a.wav").write_bytes(content[:40] + bytes(4) + content[44:])
    result = call("run", demo, tmp_path / "a.wav", "--json")
    assert result.code == 0
    assert [line["end"] for line in lines(result.out)] == [2]
    cut, cancelled = result.err.splitlines()
    assert cut.startswith(f"{tmp_path / 'a.wav'}: its header announces no audio")
    assert cancelled.startswith(f"{tmp_path / 'a.wav'}: its 2 channels cancel each other")


@pytest.mark.parametrize(("name", "rate", "channels"), [("a.wav", 8_000, 2), ("a.ogg", 44_100, 1)])
def test_files_of_other_rates_and_formats_are_scored_to_their_end(
        name: str, rate: int, channels: int, demo: Path, tmp_path: Path) -> None:
    soundfile.write(tmp_path / name, 0.1 * np.ones((3 * rate, channels)), rate)
    found = lines(call("run", demo, tmp_path / name, "--json").out)
    assert [line["end"] for line in found] == [2, 3]


@pytest.mark.parametrize("samples", [2 * RATE, 100], ids=["silent", "shorter than a chunk"])
def test_silence_and_a_short_file_are_scored(samples: int, demo: Path, tmp_path: Path) -> None:
    soundfile.write(tmp_path / "a.wav", np.zeros(samples), RATE)
    result = call("run", demo, tmp_path / "a.wav", "--json")
    assert (result.code, result.err) == (0, "")
    assert [line["end"] for line in lines(result.out)] == [samples / RATE]


BAD = {"empty.wav": "contains no samples", "text.wav": "cannot be read as audio", "nan.wav": "NaN",
       "gone.wav": "no such file", ".": "is a folder"}


@pytest.fixture
def bad(tmp_path: Path) -> Path:
    """A folder of the files in `BAD`."""
    soundfile.write(tmp_path / "empty.wav", np.zeros(0), RATE)
    (tmp_path / "text.wav").write_text("this is text\n" * 99)
    soundfile.write(tmp_path / "nan.wav", np.array([0.1, np.nan]), RATE, subtype="FLOAT")
    return tmp_path


@pytest.mark.parametrize("name", BAD)
def test_a_bad_file_exits_with_4_and_the_others_are_scored(
        name: str, bad: Path, wav: Path, demo: Path) -> None:
    result = call("run", demo, wav, bad / name, wav, "--json")
    assert result.code == 4
    assert result.err.startswith(f"Error: {bad / name}: ")
    assert BAD[name] in result.err
    assert [line["end"] for line in lines(result.out)] == [2, 4, 6, 7] * 2


def test_a_file_without_scores_is_named_only_in_its_error(demo: Path, bad: Path) -> None:
    result = call("run", demo, bad / "empty.wav", bad / "text.wav")
    assert (result.code, result.out, result.err.count("Error: ")) == (4, "", 2)


def test_standard_input_without_audio_exits_with_4(demo: Path) -> None:
    result = call("run", demo, "-")
    assert (result.code, "standard input: is empty" in result.err) == (4, True)


def test_standard_input_can_be_read_only_once(demo: Path) -> None:
    result = call("run", demo, "-", "-")
    assert (result.code, "- is given more than once" in result.err) == (2, True)


@needs_dev_full
def test_an_error_that_cannot_be_printed_keeps_its_exit_code(demo: Path) -> None:
    with open("/dev/full", "w", encoding="utf-8") as full:
        done = subprocess.run([sys.executable, "-c", START, "run", demo, "missing.wav"], stderr=full,
                              stdout=subprocess.DEVNULL, check=False)
    assert done.returncode == 4


def test_a_name_that_is_not_utf8_can_be_printed(demo: Path, wav: Path) -> None:
    name = wav.with_name(os.fsdecode(b"\xff.wav"))
    wav.rename(name)
    result = call("run", demo, name)
    assert (result.code, result.err) == (0, "")
    assert result.out.splitlines()[0] == f"{wav.parent}/\\udcff.wav"


def test_run_warns_that_the_weights_are_random(random_vit: Path, wav: Path) -> None:
    result = call("run", random_vit, wav, "--json")
    assert (result.code, RANDOM_WEIGHTS in result.err) == (0, True)
    assert len(lines(result.out)) == 4


def test_a_modified_bundle_is_not_run(random_vit: Path, wav: Path) -> None:
    bundle = copy_of(random_vit, wav.parent)
    (bundle / "labels.txt").write_text("Nothing\n" * 527)
    result = call("run", bundle, wav)
    assert (result.code, result.out) == (4, "")
    assert "labels.txt" in result.err


def test_closing_the_output_of_run_early_is_not_an_error(
        demo: Path, tmp_path: Path, audio: FloatArray) -> None:
    soundfile.write(tmp_path / "minute.wav", audio, RATE)
    process = start("run", demo, tmp_path / "minute.wav")
    assert process.stdout
    assert process.stderr
    assert process.stdout.readline() == f"{tmp_path / 'minute.wav'}\n"
    process.stdout.close()
    assert process.stderr.read() == ""
    assert process.wait(PATIENCE) == 0
    process.stderr.close()


@pytest.mark.parametrize(("options", "expected"), [
    ((), LoadOptions(threads=None, spinning=False)),
    (("--threads", 2, "--spinning"), LoadOptions(threads=2, spinning=True))])
def test_a_bundle_is_loaded_for_least_cpu_time_unless_latency_is_asked_for(
        tiny: Path, wav: Path, monkeypatch: pytest.MonkeyPatch, options: tuple[object, ...],
        expected: LoadOptions) -> None:
    used: list[LoadOptions] = []

    def load_recorded(bundle: Bundle, options: LoadOptions) -> Step:
        used.append(options)
        return load_step(bundle, options)

    monkeypatch.setattr("satexport.tagging.tagger.load_step", load_recorded)
    assert call("run", tiny, wav, *options).code == 0
    assert used == [expected]
