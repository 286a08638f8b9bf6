"""Calibration: the samples of a set, the streams that they come from, and the sets that are refused."""

from __future__ import annotations

import hashlib
import tracemalloc
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from satexport.audio import datasets
from satexport.audio.clips import Clip, clip_hash
from satexport.audio.datasets import SYNTHETIC_CLIPS, load_set
from satexport.bundle.folder import open_bundle
from satexport.errors import AudioError, DataError, UsageError
from satexport.quantize import calibration_set
from satexport.quantize.calibrate import MAX_CLIP_SECONDS, calibrate, chain_clips, read_clips
from satexport.quantize.calibration_set import (
    FOLDER,
    CalibrationSet,
    calibration_clips,
    find_calibration,
    shipped,
)
from satexport.step import FloatArray
from satexport.tagging.tagger import load
from tests.machine import need
from tests.tiny import DEPTH

soundfile = need("soundfile", "audio")

MINE = """
name = "mine"
source = "folder"
licence = "mine"
folder = "sounds"
clips = 10
samples = 20
stream_seconds = 30
"""
SMALL = CalibrationSet(name="small", source="synthetic", licence="made", clips=20, samples=16,
                       stream_seconds=30)


def write(folder: Path, text: str) -> str:
    (folder / "mine.toml").write_text(text)
    return str(folder / "mine.toml")


@pytest.fixture
def as_shipped(monkeypatch: pytest.MonkeyPatch) -> None:
    """The sets that ship, not the smaller ones of the tests."""
    monkeypatch.setattr(calibration_set, "FOLDER", FOLDER)
    monkeypatch.setattr(datasets, "SYNTHETIC_CLIPS", SYNTHETIC_CLIPS)


@pytest.mark.usefixtures("as_shipped")
def test_a_shipped_set_is_named_like_its_file_and_says_its_licence() -> None:
    assert [found.name for found in shipped()] == ["esc50", "synthetic"]
    for found in shipped():
        assert find_calibration(found.name) == found
        assert found.licence
        assert found.samples >= 80


def test_samples_are_chunks_with_the_cache_that_the_stream_had_there(tiny: Path) -> None:
    bundle = open_bundle(tiny)
    found = calibrate(bundle, SMALL)
    assert found.origin["streams"] == 4
    assert len(found.clip_hashes) + found.origin["silent_clips_left_out"] == 20
    assert 16 <= len(found.samples) <= 20
    silence = list(bundle.initial_cache())
    starts = [sample for sample in found.samples if np.array_equal(sample["cache_in_00"], silence[0])]
    assert len(starts) == 4  # one of each stream, the others have a history
    step = load(tiny).step
    first = starts[0]
    cache = step.initial_cache(1)
    for name, array in zip(sorted(first)[1:], cache[0].now, strict=True):
        np.testing.assert_array_equal(first[name], array)
    last = f"cache_in_{DEPTH - 1:02}"
    late = [sample for sample in found.samples if not np.array_equal(sample[last], silence[-1])]
    assert len(late) == len(found.samples) - 4
    assert all(sample["audio"].shape == (1, 32_000) for sample in found.samples)


def test_samples_of_a_window_are_whole_windows_with_silence_before_a_stream(random_window: Path) -> None:
    bundle = open_bundle(random_window)
    found = calibrate(bundle, SMALL)
    sounds, _, _ = read_clips(calibration_clips(SMALL, None), 16_000)
    windows = [np.concatenate((np.zeros(144_000, np.float32), stream))[end - 16_000:][:160_000]
               for stream in chain_clips(sounds, SMALL.stream_seconds, 16_000)
               for end in range(16_000, len(stream) + 1, 16_000)]
    kinds = {window.tobytes() for window in windows}
    assert all(sample.keys() == {"audio"} and sample["audio"].shape == (1, 160_000)
               for sample in found.samples)
    assert all(sample["audio"].tobytes() in kinds for sample in found.samples)
    begins = [sample for sample in found.samples if not sample["audio"][0, :144_000].any()]
    assert len(begins) == found.origin["streams"] == 4  # the first second of each stream


def test_the_same_seed_takes_the_same_samples_and_another_takes_others(tiny: Path) -> None:
    bundle = open_bundle(tiny)
    first, again = (calibrate(bundle, SMALL).samples for _ in range(2))
    np.testing.assert_array_equal([s["audio"] for s in first], [s["audio"] for s in again])
    other = calibrate(bundle, replace(SMALL, seed=1)).samples
    assert not np.array_equal(first[1]["audio"], other[1]["audio"])


@pytest.mark.long
@pytest.mark.usefixtures("as_shipped")
def test_no_synthetic_clip_that_calibrates_is_one_that_gates(tiny: Path) -> None:
    calibrated = set(calibrate(open_bundle(tiny), find_calibration("synthetic")).clip_hashes)
    gate = {clip_hash(clip.read(16_000)) for clip in load_set("synthetic", load(tiny).labels).clips}
    assert len(calibrated) > 50
    assert not calibrated & gate


def test_a_folder_of_ones_own_audio_calibrates(tiny: Path, tmp_path: Path, audio: FloatArray) -> None:
    (tmp_path / "sounds").mkdir()
    for number, part in enumerate(np.split(audio[:800_000], 10)):
        soundfile.write(tmp_path / "sounds" / f"{number}.wav", part, 16_000)
    found = calibrate(open_bundle(tiny), find_calibration(write(tmp_path, MINE)))
    assert len(found.samples) >= 20
    assert len(found.clip_hashes) == 10
    assert find_calibration(str(tmp_path / "sounds")).source == "folder"


FORMATS: dict[str, dict[str, str]] = {
    "a.wav": {}, "b.AIFF": {"format": "AIFF"}, "c.opus": {"format": "OGG", "subtype": "OPUS"}, "d.w64": {},
    "e.caf": {}, "deep/f.aif": {"format": "AIFF"}, "g.mp3": {}, "h.flac": {}, "i.oga": {"format": "OGG"}}


def test_every_file_that_can_be_read_calibrates_and_what_is_left_out_is_named(
        tmp_path: Path, audio: FloatArray) -> None:
    (tmp_path / "deep").mkdir()
    (tmp_path / "folder.wav").mkdir()
    for number, (name, options) in enumerate(FORMATS.items()):
        soundfile.write(tmp_path / name, audio[number * 16_000:][:16_000], 16_000, **options)
    for name in ("notes.txt", "call.m4a", ".DS_Store", "._a.wav", ".trash/a.wav", "deep/.trash/deep/b.wav"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_bytes(b"something else")
    said: list[str] = []
    clips = calibration_clips(find_calibration(str(tmp_path)), None, said.append)
    assert sorted(clip.name.replace("\\", "/") for clip in clips) == sorted(FORMATS)
    assert all(len(clip.read(16_000)) >= 16_000 for clip in clips)
    assert said == [f"{tmp_path}: ignored 2 files without an audio file extension: "
                    "call.m4a, notes.txt."]


def test_a_folder_without_audio_says_what_is_in_it(tmp_path: Path) -> None:
    (tmp_path / "call.m4a").write_bytes(b"something else")
    with pytest.raises(DataError, match=r"contains no audio, but 1 files .*: call\.m4a\. Expected .*\.wav"):
        calibration_clips(find_calibration(str(tmp_path)), None)


def test_of_a_long_recording_only_the_beginning_is_in_memory_and_all_of_it_in_the_hash() -> None:
    blocks_of_7_s, second = 200, np.linspace(-0.5, 0.5, 16_000, dtype=np.float32)

    def blocks(_rate: int) -> Iterator[FloatArray]:
        for _ in range(blocks_of_7_s):
            yield np.tile(second, 7)
    tracemalloc.start()
    try:
        (sound,), (digest,), silent = read_clips([Clip("long", (), blocks)], 16_000)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert (len(sound), silent) == (MAX_CLIP_SECONDS * 16_000, 0)
    np.testing.assert_array_equal(sound, np.tile(second, MAX_CLIP_SECONDS))
    assert digest == clip_hash(np.tile(second, 7 * blocks_of_7_s))
    assert peak < 3 * sound.nbytes < 7 * blocks_of_7_s * second.nbytes


@pytest.mark.long
def test_real_clips_calibrate_by_their_folds(tiny: Path, shared: Path) -> None:
    found = calibrate(open_bundle(tiny), find_calibration("esc50"), shared / "esc10")
    assert found.origin["folds"] == (1,)
    assert len(found.samples) >= 80
    gate = load_set(str(shared / "esc10"), load(tiny).labels, folds=[4])
    assert not set(found.clip_hashes) & {clip_hash(clip.read(16_000)) for clip in gate.clips}


@pytest.mark.parametrize(("now", "then", "words"), [
    ("clips = 10", "clip = 10", "unknown key 'clip'; the keys are name, source"),
    ('licence = "mine"', "", "the key 'licence' is missing"),
    ('folder = "sounds"', "", "folder is '', expected a folder"),
    ('source = "folder"', 'source = "web"', "source is 'web', expected synthetic or esc50 or folder"),
    ("samples = 20", "samples = 3", "samples is 3, expected a number from 16"),
    ("samples = 20", "samples = true", "samples is True, expected a whole number"),
    ("stream_seconds = 30", "stream_seconds = 5", "stream_seconds is 5, expected seconds from 30"),
    ("clips = 10", "clips = 10\nseed = -1", "seed is -1"),
    ("clips = 10", "clips = 10\nfolds = [1.5]", "folds is"),
    ("clips = 10", "clips = 10\nfolds = [1]\nchoose_folds = [1]", "choose_folds is .*that are not in folds"),
    ("clips = 10", "clips = 10\nfolds = [1]\ngate_folds = [1]", "gate_folds is .*a clip that gates is never"),
    ("clips = 10", "clips = 10\nfolds = [1]\nchoose_folds = [2]\ngate_folds = [2]", "gate_folds is"),
    ("clips = 10", "clips = 10\nfolds = [1]\ngate_folds = [2.5]", "gate_folds is .*a list of whole numbers"),
    ("clips = 10", "clips = 10\nchecksums = {a = 'xyz'}", "the checksum of 'a' is 'xyz', expected a SHA-256"),
    ("clips = 10", "clips = 10\nchecksums = {a = 1}", "checksums is .*a table of strings"),
    ("clips = 10", "clips = ", "is not a readable TOML")])
def test_a_wrong_key_or_value_of_a_manifest_is_named(tmp_path: Path, now: str, then: str, words: str) -> None:
    assert now in MINE
    with pytest.raises(DataError, match=f"mine.toml.*{words}"):
        find_calibration(write(tmp_path, MINE.replace(now, then)))


def test_an_unknown_set_is_wrong_use_and_lists_those_that_ship() -> None:
    with pytest.raises(UsageError, match="'librispeech'; expected one of esc50, synthetic"):
        find_calibration("librispeech")


def test_too_few_silent_broken_or_other_clips_are_refused(
        tiny: Path, tmp_path: Path, audio: FloatArray) -> None:
    bundle, sounds = open_bundle(tiny), tmp_path / "sounds"
    sounds.mkdir()
    wanted = find_calibration(write(tmp_path, MINE))
    with pytest.raises(DataError, match="contains no audio"):
        calibrate(bundle, wanted)
    soundfile.write(sounds / "silence.wav", np.zeros(50_000), 16_000)
    with pytest.raises(DataError, match="all 1 clips of the calibration set are silent"):
        calibrate(bundle, wanted)
    soundfile.write(sounds / "one.wav", audio[:100_000], 16_000)
    with pytest.raises(DataError, match="1 clips give 3 chunks of 2 s, expected at least 16"):
        calibrate(bundle, wanted)
    (sounds / "two.wav").write_bytes(b"RIFF and nothing more")
    with pytest.raises(AudioError, match=r"two\.wav"):
        calibrate(bundle, wanted)
    digest = hashlib.sha256((sounds / "one.wav").read_bytes()).hexdigest()
    for checksum, words in ((digest.replace("a", "b"), "another file, or damaged"), (digest, "two.wav")):
        table = f'{MINE}\n[checksums]\n"one.wav" = "{checksum}"\n'
        with pytest.raises((DataError, AudioError), match=words):
            calibrate(bundle, find_calibration(write(tmp_path, table)))
    with pytest.raises(DataError, match=r"there is no folder .*gone"):
        calibrate(bundle, wanted, tmp_path / "gone")
