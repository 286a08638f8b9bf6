"""`satexport run` and `satexport parity` as a user meets them."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import numpy as np
import pytest

from satexport import __version__
from satexport.audio.synthetic import synthetic_clip
from satexport.bundle.contract import RANDOM_WEIGHTS
from satexport.bundle.folder import GOLDEN, INITIAL_CACHE
from satexport.parity.records import PARITY_DEFINITIONS
from satexport.step import FloatArray
from tests.bundle.test_folder import copy_of, manifest_of, reseal
from tests.commands.test_cli import START, call, no_file_longer_than, start, vit_file
from tests.machine import PATIENCE, need, needs_dev_full

soundfile = need("soundfile", "audio")
RATE = 16_000  # Hz


@pytest.fixture
def wav(tmp_path: Path, audio: FloatArray) -> Path:
    """Seven seconds: three full chunks of 2 s and a half one."""
    soundfile.write(tmp_path / "seven.wav", audio[:7 * RATE], RATE, subtype="PCM_16")
    return tmp_path / "seven.wav"


def lines(text: str) -> list[dict[str, Any]]:
    return [json.loads(line) for line in text.splitlines()]


# run

def test_tags_of_a_file_come_one_line_per_chunk(demo: Path, wav: Path) -> None:
    result = call("run", demo, wav, "--top", 2)
    assert (result.code, result.err) == (0, "")
    name, *rows = result.out.splitlines()
    assert name == str(wav)
    assert [row.split(" s  ")[0].split() for row in rows] == [
        ["0.0", "-", "2.0"], ["2.0", "-", "4.0"], ["4.0", "-", "6.0"], ["6.0", "-", "7.0"]]


def test_json_lines_cover_the_whole_file_and_are_all_there_is(demo: Path, wav: Path) -> None:
    result = call("run", demo, wav, "--json", "--top", 5)
    assert (result.code, result.err) == (0, "")
    found = lines(result.out)
    assert [(line["start"], line["end"]) for line in found] == [(0, 2), (2, 4), (4, 6), (6, 7)]
    for line in found:
        scores = [tag["score"] for tag in line["tags"]]
        assert line["file"] == str(wav)
        assert len(scores) == 5
        assert scores == sorted(scores, reverse=True)
        assert 0 <= scores[-1] <= scores[0] <= 1


def test_the_demo_hears_what_is_there(demo: Path, tmp_path: Path) -> None:
    noise = np.random.default_rng(0).normal(0, 0.1, 4 * RATE)
    soundfile.write(tmp_path / "noise.wav", noise, RATE)
    found = lines(call("run", demo, tmp_path / "noise.wav", "--json").out)
    assert [line["tags"][0]["label"] for line in found] == ["White noise"] * 2


def test_pcm_on_standard_input_is_heard_like_the_same_audio_in_a_file(demo: Path, wav: Path) -> None:
    pcm, _ = soundfile.read(wav, dtype="int16")
    piped = lines(call("run", demo, "-", "--json", stdin=pcm.tobytes()).out)
    filed = lines(call("run", demo, wav, "--json").out)
    assert piped == [line | {"file": "-"} for line in filed]


def test_a_file_on_standard_input_ends_with_4_and_what_to_do(demo: Path, wav: Path) -> None:
    result = call("run", demo, "-", stdin=wav.read_bytes())
    assert (result.code, result.out) == (4, "standard input\n")
    assert "begins like a file of the kind WAV" in result.err
    assert "ffmpeg: -f s16le -ar 16000 -ac 1" in result.err


@pytest.mark.skipif(not Path("/dev/fd").exists(), reason="needs /dev/fd")
def test_a_pipe_is_heard_like_a_file(demo: Path, wav: Path) -> None:
    reading, writing = os.pipe()
    with os.fdopen(reading), subprocess.Popen(["cat", wav], stdout=writing):
        os.close(writing)
        result = call("run", demo, f"/dev/fd/{reading}", "--json")
    assert (result.code, result.err) == (0, "")
    filed = lines(call("run", demo, wav, "--json").out)
    assert lines(result.out) == [line | {"file": f"/dev/fd/{reading}"} for line in filed]


def test_what_must_be_known_of_a_file_is_said_on_standard_error(demo: Path, tmp_path: Path) -> None:
    noise = np.random.default_rng(0).normal(0, 0.1, 2 * RATE)
    soundfile.write(tmp_path / "a.wav", np.stack([noise, -noise], 1), RATE)
    content = (tmp_path / "a.wav").read_bytes()
    (tmp_path / "a.wav").write_bytes(content[:40] + bytes(4) + content[44:])
    result = call("run", demo, tmp_path / "a.wav", "--json")
    assert result.code == 0
    assert [line["end"] for line in lines(result.out)] == [2]
    cut, cancelled = result.err.splitlines()
    assert cut.startswith(f"{tmp_path / 'a.wav'}: its header counts no sound")
    assert cancelled.startswith(f"{tmp_path / 'a.wav'}: the mean of its 2 channels")


@pytest.mark.parametrize(("name", "rate", "channels"), [("a.wav", 8_000, 2), ("a.ogg", 44_100, 1)])
def test_files_of_another_rate_and_kind_are_heard_to_their_end(
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


BAD = {"empty.wav": "has no samples", "text.wav": "cannot be read as audio", "nan.wav": "NaN",
       "gone.wav": "no such file", ".": "is a folder"}


@pytest.fixture
def bad(tmp_path: Path) -> Path:
    """A folder of the files in `BAD`."""
    soundfile.write(tmp_path / "empty.wav", np.zeros(0), RATE)
    (tmp_path / "text.wav").write_text("this is text\n" * 99)
    soundfile.write(tmp_path / "nan.wav", np.array([0.1, np.nan]), RATE, subtype="FLOAT")
    return tmp_path


@pytest.mark.parametrize("name", BAD)
def test_a_bad_file_ends_with_4_and_the_others_are_heard(name: str, bad: Path, wav: Path, demo: Path) -> None:
    result = call("run", demo, wav, bad / name, wav, "--json")
    assert result.code == 4
    assert result.err.startswith(f"Error: {bad / name}: ")
    assert BAD[name] in result.err
    assert [line["end"] for line in lines(result.out)] == [2, 4, 6, 7] * 2


def test_standard_input_without_audio_ends_with_4(demo: Path) -> None:
    result = call("run", demo, "-")
    assert (result.code, "no audio came" in result.err) == (4, True)


def test_standard_input_can_be_heard_once(demo: Path) -> None:
    result = call("run", demo, "-", "-")
    assert (result.code, "- stands there more than once" in result.err) == (2, True)


@needs_dev_full
def test_an_error_that_cannot_be_printed_keeps_its_exit_code(demo: Path) -> None:
    with open("/dev/full", "w", encoding="utf-8") as full:
        done = subprocess.run([sys.executable, "-c", START, "run", demo, "missing.wav"], stderr=full,
                              stdout=subprocess.DEVNULL, check=False)
    assert done.returncode == 4


def test_a_name_that_is_no_text_can_be_printed(demo: Path) -> None:
    result = call("run", demo, os.fsdecode(b"\xff.wav"))
    assert result.code == 4
    assert result.out == "\\udcff.wav\n"


def test_run_says_that_the_weights_are_random(random_vit: Path, wav: Path) -> None:
    result = call("run", random_vit, wav, "--json")
    assert (result.code, RANDOM_WEIGHTS in result.err) == (0, True)
    assert len(lines(result.out)) == 4


def test_a_changed_bundle_is_not_run(random_vit: Path, wav: Path) -> None:
    bundle = copy_of(random_vit, wav.parent)
    (bundle / "labels.txt").write_text("Nothing\n" * 527)
    result = call("run", bundle, wav)
    assert (result.code, result.out) == (4, "")
    assert "labels.txt" in result.err


def test_a_reader_that_leaves_early_ends_run_in_peace(demo: Path, tmp_path: Path, audio: FloatArray) -> None:
    soundfile.write(tmp_path / "minute.wav", audio, RATE)
    process = start("run", demo, tmp_path / "minute.wav")
    assert process.stdout
    assert process.stderr
    assert process.stdout.readline() == f"{tmp_path / 'minute.wav'}\n"
    process.stdout.close()
    assert process.stderr.read() == ""
    assert process.wait(PATIENCE) == 0
    process.stderr.close()


# parity

@pytest.fixture
def bundle(demo: Path, tmp_path: Path) -> Path:
    """The demo's bundle, to write reports into."""
    return copy_of(demo, tmp_path)


@pytest.fixture
def labelled(tmp_path: Path) -> Path:
    """A labelled set of three clips of one chunk."""
    rows = ["filename,labels"]
    for index in range(3):
        clip, names = synthetic_clip("evaluate", index)
        soundfile.write(tmp_path / f"{index}.wav", clip[:2 * RATE], RATE)
        rows.append(f'{index}.wav,"{";".join(names)}"')
    (tmp_path / "clips.csv").write_text("\n".join(rows))
    return tmp_path / "clips.csv"


@pytest.fixture
def spoiled(bundle: Path) -> Path:
    """A bundle whose hashes are right and whose initial cache is not: zeros, as one would guess."""
    np.save(bundle / INITIAL_CACHE, np.zeros_like(np.load(bundle / INITIAL_CACHE)))
    reseal(bundle)
    return bundle


def test_parity_passes_on_the_demo_and_its_report_explains_itself(bundle: Path, labelled: Path) -> None:
    result = call("parity", bundle, "--minutes", 0.1, "--data", labelled, "--junit", bundle.parent / "p.xml")
    assert (result.code, result.err) == (0, "")
    assert "Parity: passed." in result.out
    report = json.loads((bundle / "reports" / "parity.json").read_bytes())
    assert report["verdict"] == "passed"
    assert [gate["status"] for gate in report["gates"]] == ["passed"] * 3
    assert report["set"]["clips"] == 3
    assert report["definitions"] == PARITY_DEFINITIONS
    assert report["origin"]["versions"]["satexport"] == __version__
    assert {"torch", "onnxruntime", "numpy", "python"} <= set(report["origin"]["versions"])
    assert report["origin"]["cpu"]
    assert report["checkpoint"]["sha256"] == manifest_of(bundle)["contract"]["checkpoint"]["sha256"]
    suite = ElementTree.parse(bundle.parent / "p.xml").getroot()
    assert (suite.get("tests"), suite.get("failures"), suite.get("skipped")) == ("3", "0", "0")


def test_golden_parity_prints_one_json_document_which_is_its_report(bundle: Path) -> None:
    result = call("parity", bundle, "--golden", "--json")
    assert (result.code, result.err) == (0, "")
    assert json.loads(result.out) == json.loads((bundle / "reports" / "parity-golden.json").read_bytes())


def test_parity_fails_where_the_initial_cache_is_wrong(spoiled: Path) -> None:
    result = call("parity", spoiled, "--golden", "--junit", spoiled.parent / "p.xml")
    assert result.code == 1
    assert "largest score difference, golden chunks failed" in result.err
    assert "Parity: failed." in result.out
    assert json.loads((spoiled / "reports" / "parity-golden.json").read_bytes())["verdict"] == "failed"
    failures = ElementTree.parse(spoiled.parent / "p.xml").findall("testcase/failure")
    assert len(failures) == 1


def test_parity_against_pytorch_fails_there_too(spoiled: Path, labelled: Path) -> None:
    result = call("parity", spoiled, "--minutes", 0.1, "--data", labelled)
    assert result.code == 1
    assert "largest score difference, 0.1 min of stream failed" in result.err


def test_a_reader_that_leaves_early_does_not_turn_failed_into_passed(spoiled: Path) -> None:
    reading, writing = os.pipe()
    os.close(reading)
    done = subprocess.run([sys.executable, "-c", START, "parity", spoiled, "--golden"],
                          stdout=writing, stderr=subprocess.PIPE, encoding="utf-8", check=False)
    os.close(writing)
    assert (done.returncode, "failed" in done.stderr, "Traceback" in done.stderr) == (1, True, False)


def test_a_gate_that_cannot_be_judged_is_skipped_or_fails_where_data_are_required(
        random_vit: Path, tmp_path: Path) -> None:
    bundle = copy_of(random_vit, tmp_path)
    result = call("parity", bundle, "--minutes", 0.1)
    assert result.code == 0
    assert RANDOM_WEIGHTS in result.err
    assert "Parity: skipped." in result.out
    assert json.loads((bundle / "reports" / "parity.json").read_bytes())["set"] is None
    result = call("parity", bundle, "--minutes", 0.1, "--require-data")
    assert (result.code, "mAP kept failed: random weights" in result.err) == (1, True)
    assert "Parity: failed." in result.out
    gates = json.loads((bundle / "reports" / "parity.json").read_bytes())["gates"]
    assert [gate["status"] for gate in gates] == ["passed", "failed"]


@pytest.mark.parametrize("option", [("--data", "x"), ("--folds", "4"), ("--map", "x"), ("--checkpoint", "x")])
def test_golden_takes_no_option_that_it_would_ignore(random_vit: Path, option: tuple[str, str]) -> None:
    result = call("parity", random_vit, "--golden", *option)
    assert (result.code, "--golden needs neither" in result.err) == (2, True)


def test_weights_of_another_file_end_with_4(random_vit: Path, tmp_path: Path) -> None:
    bundle = copy_of(random_vit, tmp_path)
    result = call("parity", bundle, "--checkpoint", vit_file(tmp_path, 1))
    assert result.code == 4
    assert "seed-1.safetensors has the SHA-256" in result.err
    assert not (bundle / "reports" / "parity.json").exists()


def test_weights_that_are_not_known_here_end_with_4_and_what_to_do(bundle: Path) -> None:
    import onnx

    graph = onnx.load(bundle / "model.onnx")
    origin = {"name": "mine.pt", "source": "file", "sha256": "0" * 64}
    for entry in graph.metadata_props:
        if entry.key == "satexport.checkpoint":
            entry.value = json.dumps(origin)
    onnx.save(graph, bundle / "model.onnx")
    reseal(bundle, checkpoint=origin)
    result = call("parity", bundle, "--minutes", 0.1)
    assert result.code == 4
    assert "was made from mine.pt" in result.err
    assert "pass --checkpoint FILE, or use --golden" in result.err
    assert call("parity", bundle, "--golden").code == 0


def test_a_bundle_that_takes_no_report_still_gets_its_table_and_ends_with_5(bundle: Path) -> None:
    with no_file_longer_than(100):
        result = call("parity", bundle, "--golden")
    assert result.code == 5
    assert "golden chunks" in result.out
    assert "parity-golden.json: cannot be written" in result.err
    elsewhere = bundle.parent / "report.json"
    assert call("parity", bundle, "--golden", "--report", elsewhere).code == 0
    assert json.loads(elsewhere.read_bytes())["verdict"] == "passed"


def test_golden_chunks_of_another_run_fail(bundle: Path) -> None:
    with np.load(bundle / GOLDEN) as file:
        arrays = dict(file)
    arrays["scores"] = arrays["scores"][::-1]
    np.savez(bundle / GOLDEN, **arrays)
    reseal(bundle)
    assert call("parity", bundle, "--golden").code == 1
