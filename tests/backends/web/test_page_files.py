"""Files on the page: they are scored as `satexport run` scores them, and what cannot be read is said."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from satexport.backends.web.server import serve_folder
from satexport.bundle.folder import open_bundle
from satexport.step import FloatArray
from satexport.tagging.tagger import Tagger
from tests.backends.web.containers import adts, mp4
from tests.backends.web.page import OpenPage, largest_difference, open_page, scores_of
from tests.machine import need

DOG, ROOSTER = "4-207124-A-0.ogg", "4-164064-C-1.ogg"
CONTAINERS = [  # file name, soundfile's format and subtype, channels, Hz
    ("pcm16.wav", "WAV", "PCM_16", 1, 44100), ("pcm24.wav", "WAV", "PCM_24", 2, 48000),
    ("pcm8.wav", "WAV", "PCM_U8", 1, 16000), ("float.wav", "WAVEX", "FLOAT", 3, 22050),
    ("double.wav", "RF64", "DOUBLE", 1, 32000), ("ulaw.wav", "WAV", "ULAW", 1, 44100),
    ("sound.flac", "FLAC", "PCM_16", 2, 44100), ("sound.ogg", "OGG", "VORBIS", 2, 32000),
    ("sound.opus", "OGG", "OPUS", 1, 48000), ("sound.mp3", "MP3", "MPEG_LAYER_III", 1, 44100)]


@pytest.fixture(scope="module")
def page(browser: Any, web_fp32: Path) -> Iterator[OpenPage]:
    with serve_folder(web_fp32) as address, open_page(browser, address, accept_downloads=True) as opened:
        yield opened
        assert opened.problems == []


@pytest.fixture(scope="module")
def dog(shared: Path) -> tuple[FloatArray, int]:
    """A real clip [samples], and its rate in Hz."""
    return read(shared / "esc10" / "audio" / DOG)


def read(path: Path) -> tuple[FloatArray, int]:
    samples, rate = need("soundfile", "audio").read(path, dtype="float32", always_2d=True)
    return samples.mean(axis=1), rate


def written(path: Path, samples: Any, rate: int, format: str = "WAV",  # noqa: A002
            subtype: str = "FLOAT") -> bytes:
    need("soundfile", "audio").write(path, samples, rate, format=format, subtype=subtype)
    return path.read_bytes()


@pytest.mark.parametrize(("clip", "label"), [(DOG, "Dog"), (ROOSTER, "Crowing, cock-a-doodle-doo")])
def test_a_dropped_clip_shows_its_sound_and_the_scores_of_satexport_run(
        page: OpenPage, tagger: Tagger, shared: Path, clip: str, label: str) -> None:
    path = shared / "esc10" / "audio" / clip
    page.clear(0.05)
    page.drop(clip, path.read_bytes())
    assert page.notices == ""
    assert largest_difference(tagger, page.heard(), scores_of(tagger, path)) <= 0.02
    assert label in page.tab.inner_text("#tags li.above")
    assert page.tab.inner_text("#now-title") == f"Heard in {clip}"


@pytest.mark.parametrize(("name", "kind", "subtype", "channels", "rate"), CONTAINERS)
def test_a_file_of_each_kind_is_decoded_at_its_own_rate(
        page: OpenPage, tagger: Tagger, dog: tuple[FloatArray, int], tmp_path: Path, name: str, kind: str,
        subtype: str, channels: int, rate: int) -> None:
    soxr = need("soxr", "audio")
    samples = soxr.resample(dog[0], dog[1], rate)[:, None].repeat(channels, 1)
    samples = samples * np.linspace(1, 0.5, channels)
    page.clear(0.05)
    content = written(tmp_path / name, np.clip(samples, -1, 1), rate, kind, subtype)
    page.drop(name, content)
    assert page.notices == ""
    assert largest_difference(tagger, page.heard(), scores_of(tagger, tmp_path / name)) <= 0.02


def test_an_unfinished_wav_file_is_read_to_its_end(
        page: OpenPage, tagger: Tagger, dog: tuple[FloatArray, int], tmp_path: Path) -> None:
    content = bytearray(written(tmp_path / "whole.wav", dog[0], 44100, subtype="PCM_16"))
    at = content.index(b"data") + 4
    content[at:at + 4] = bytes(4)  # as a recorder leaves it that was switched off
    page.clear(0.05)
    page.drop("unfinished.wav", bytes(content))
    expected = scores_of(tagger, tmp_path / "whole.wav")
    assert largest_difference(tagger, page.heard(), expected) <= 0.02


def test_several_files_are_read_one_after_the_other_and_saved_by_name(page: OpenPage, shared: Path) -> None:
    page.clear()
    audio = shared / "esc10" / "audio"
    page.tab.set_input_files("#files", [audio / DOG, audio / ROOSTER])
    page.wait("ready")
    page.tab.wait_for_function("(name) => document.getElementById('now-title').textContent.endsWith(name)",
                               arg=ROOSTER)
    page.wait("ready")
    report = json.loads(page.saved("json"))
    assert {row["source"] for row in report["heard"]} == {DOG, ROOSTER}
    assert report["threshold"] == 0.3
    rows = list(csv.DictReader(io.StringIO(page.saved("csv"))))
    assert [(row["source"], float(row["start"]), row["label"], float(row["score"])) for row in rows] == [
        (row["source"], row["start"], row["label"], row["score"]) for row in report["heard"]]
    assert any(row["label"] == "Crowing, cock-a-doodle-doo" for row in rows)
    assert max(row["end"] for row in report["heard"]) <= 5.1  # of the file, not of the padded chunk


def test_saved_json_names_the_bundle(page: OpenPage, web_fp32: Path, dog: tuple[FloatArray, int],
                                     tmp_path: Path) -> None:
    page.clear()
    page.drop("dog.wav", written(tmp_path / "dog.wav", *dog))
    bundle = open_bundle(web_fp32)
    model = json.loads(page.saved())["model"]
    assert (model["variant"], model["precision"]) == ("sat-t-2s", "fp32")
    assert model["bundle_sha256"] == bundle.sha256
    assert model["checkpoint"]["sha256"] == bundle.contract.checkpoint.sha256


def bad_files(samples: FloatArray, folder: Path) -> dict[str, tuple[bytes, str]]:
    """Files that are no audio, and what the page says about them."""
    hole = samples.copy()
    hole[30_000] = np.nan
    wav = written(folder / "dog.wav", samples, 44100, subtype="PCM_16")
    return {
        "notes.txt": (b"not audio" * 100, "cannot decode the file"),
        "empty.wav": (b"", "The file is empty"),
        "header.wav": (wav[:44], "contains no samples"),
        "half.flac": (written(folder / "d.flac", samples, 44100, "FLAC", "PCM_16")[:60],
                      "starts like FLAC"),
        "hole.wav": (written(folder / "hole.wav", hole, 44100), "NaN or infinity"),
        "loud.wav": (written(folder / "loud.wav", samples * 32768, 44100), "far too loud"),
        "slow.wav": (written(folder / "slow.wav", samples, 4000), "is at 4000 Hz; expected a whole number"),
        "slow.aac": (adts(12) * 9, "is at 7350 Hz; expected a whole number"),
        "cut.caf": (b"caff\0\1\0\0desc", "starts like CAF"),
        "cut.ogg": (b"OggS" + bytes(22) + b"\1\x1e\1vorbis" + bytes(5), "starts like Ogg Vorbis"),
        "cut.m4a": (mp4(44100, b"\x12\x10")[-70:-40].join((b"\0\0\0\x0cftypM4A ", b"stsd    mp4a")),
                    "starts like MP4"),
    }


def test_a_bad_file_is_said_and_the_next_is_read(page: OpenPage, dog: tuple[FloatArray, int],
                                                 tmp_path: Path) -> None:
    page.clear()
    page.drop("dog.wav", written(tmp_path / "dog.wav", *dog))
    assert page.tab.locator("#tags li").count() == 6
    for name, (content, words) in bad_files(dog[0], tmp_path).items():
        page.drop(name, content)
        assert page.tab.inner_text("#now-title") == f"Heard in {name}"
        if name != "hole.wav":  # its beginning was heard
            assert page.tab.locator("#tags li").count() == 0  # and not those of dog.wav
        assert f"{name} was not read" in page.notices, name
        assert words in page.notices, name
    page.drop("dog.wav", written(tmp_path / "dog.wav", *dog))
    assert "dog.wav was not read." not in page.notices
    assert {row["source"] for row in page.heard()} >= {"dog.wav"}


def test_channels_that_cancel_each_other_are_said(page: OpenPage, dog: tuple[FloatArray, int],
                                                  tmp_path: Path) -> None:
    page.clear()
    page.drop("wide.wav", written(tmp_path / "wide.wav", np.stack([dog[0], -dog[0]], 1), dog[1]))
    assert "channels cancel each other" in page.notices
