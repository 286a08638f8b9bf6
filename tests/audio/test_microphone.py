"""A microphone, by a stand-in for sounddevice: no test listens to hardware."""

from __future__ import annotations

import json
import re
import sys
from pathlib import Path

import numpy as np
import pytest

from satexport.audio.microphone import WAITING_SECONDS, microphone_blocks
from satexport.errors import MissingError, RunError, SatexportError
from satexport.step import FloatArray
from tests.audio.fake_sounddevice import FakeSoundDevice
from tests.commands.calls import call
from tests.machine import PATIENCE, need

soxr = need("soxr", "mic")
RATE = 16_000  # Hz


def fake(monkeypatch: pytest.MonkeyPatch, sound: FloatArray, **options: object) -> FakeSoundDevice:
    device = FakeSoundDevice(sound if sound.ndim == 2 else sound[:, None], **options)  # type: ignore[arg-type]
    monkeypatch.setitem(sys.modules, "sounddevice", device)
    return device


def listen(device: str = "", rate: int = RATE, patience: float = PATIENCE
           ) -> tuple[FloatArray, SatexportError, list[str]]:
    """What is heard until the microphone fails, the error, and what was said."""
    blocks, told = [np.empty(0, np.float32)], list[str]()
    with pytest.raises(SatexportError) as caught:
        blocks.extend(microphone_blocks(device, rate, told.append, patience))
    return np.concatenate(blocks), caught.value, told


@pytest.fixture
def sound() -> FloatArray:
    return np.random.default_rng(0).normal(0, 0.1, 48_100).astype(np.float32)


def test_a_microphone_is_resampled_like_a_whole_file(
        sound: FloatArray, monkeypatch: pytest.MonkeyPatch) -> None:
    device = fake(monkeypatch, sound)
    heard, error, told = listen()
    np.testing.assert_allclose(heard, soxr.resample(sound, 48_000, RATE, "HQ"), atol=1e-6)
    assert device.opened[0].items() >= {"device": 1, "channels": 1, "samplerate": 48_000,
                                        "dtype": "float32"}.items()
    assert told == ["Microphone: USB Audio: #0 (hw:1,0), 48000 Hz."]
    assert isinstance(error, RunError)


def test_at_the_rate_of_the_model_nothing_is_resampled(
        sound: FloatArray, monkeypatch: pytest.MonkeyPatch) -> None:
    fake(monkeypatch, sound, rate=16_000.0)
    np.testing.assert_array_equal(listen()[0], sound)


def test_channels_are_averaged_if_the_device_has_only_all_of_them(
        sound: FloatArray, monkeypatch: pytest.MonkeyPatch) -> None:
    both = np.stack([sound, np.zeros_like(sound)], axis=1)
    fake(monkeypatch, both, rate=16_000.0, mono=False)
    np.testing.assert_array_equal(listen()[0], sound / 2)
    fake(monkeypatch, both, rate=16_000.0)  # its driver mixes them
    np.testing.assert_array_equal(listen()[0], sound)


@pytest.mark.parametrize(("end", "message"), [
    ("gone", "cannot be read"), ("silent", "has delivered nothing for 0.1 s")])
def test_a_microphone_that_disappears_is_an_error_after_what_was_heard(
        end: str, message: str, sound: FloatArray, monkeypatch: pytest.MonkeyPatch) -> None:
    device = fake(monkeypatch, sound, end=end)
    heard, error, _ = listen(patience=0.1 if end == "silent" else PATIENCE)
    assert device.aborted == 1  # to stop it could take forever
    assert len(heard) == len(soxr.resample(sound, 48_000, RATE, "HQ"))
    assert (type(error), error.exit_code) == (RunError, 5)
    assert message in str(error)
    assert "What was heard until then is kept." in str(error)


def test_a_microphone_that_stops_without_an_error_has_disappeared(
        sound: FloatArray, monkeypatch: pytest.MonkeyPatch) -> None:
    fake(monkeypatch, sound, end="stopped")
    assert "has disappeared" in str(listen()[1])


def test_what_arrives_just_before_a_microphone_disappears_is_heard(
        sound: FloatArray, monkeypatch: pytest.MonkeyPatch) -> None:
    fake(monkeypatch, sound[:-100], rate=16_000.0, end="stopped", last=sound[-100:])
    np.testing.assert_array_equal(listen()[0], sound)


def test_lost_samples_are_said_once(sound: FloatArray, monkeypatch: pytest.MonkeyPatch) -> None:
    fake(monkeypatch, sound, overflow_at=2)
    assert "lost samples" in listen()[2][1]


def test_sound_that_waits_too_long_is_lost_and_it_is_said_how_much(monkeypatch: pytest.MonkeyPatch) -> None:
    sound = np.ones(15 * RATE, np.float32)
    device, told = fake(monkeypatch, sound, rate=16_000.0), list[str]()
    blocks = microphone_blocks("", RATE, told.append)
    parts = [next(blocks)]
    assert device.delivered.wait(PATIENCE)  # while the block is scored
    with pytest.raises(RunError):
        parts.extend(blocks)
    heard = sum(map(len, parts)) / RATE
    assert WAITING_SECONDS <= heard < WAITING_SECONDS + 1
    assert ["lost samples" in line for line in told] == [False, True, False]
    lost = re.search(r"Lost from .* ([0-9.]+) s\.", told[-1])
    assert lost
    assert float(lost[1]) == pytest.approx(15 - heard)


@pytest.mark.parametrize("device", ["1", "USB", ""])
def test_a_device_is_found_by_number_and_by_part_of_its_name(
        device: str, sound: FloatArray, monkeypatch: pytest.MonkeyPatch) -> None:
    fake(monkeypatch, sound)
    assert len(listen(device)[0])


def test_a_device_that_does_not_exist_or_cannot_be_opened_is_refused(
        sound: FloatArray, monkeypatch: pytest.MonkeyPatch) -> None:
    fake(monkeypatch, sound)
    error = listen("Webcam")[1]
    assert isinstance(error, MissingError)
    assert "no single microphone matches 'Webcam'" in str(error)
    assert "expected one of 1: USB Audio: #0 (hw:1,0)." in str(error)
    fake(monkeypatch, sound, others=("USB Camera",))
    assert "no single microphone matches 'USB' (Multiple" in str(listen("USB")[1])
    fake(monkeypatch, np.empty((0, 0), np.float32))
    assert "this machine has none" in str(listen()[1])
    fake(monkeypatch, sound, end="busy")
    assert "Device unavailable" in str(listen()[1])


def test_without_the_package_the_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "sounddevice", None)
    assert str(listen()[1]) == "sounddevice is not installed: pip install 'satexport[mic]'."


def test_run_keeps_what_it_heard_of_a_microphone_that_disappeared(
        demo: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    noise = np.zeros(23 * RATE // 4, np.float32)  # 5.75 s
    noise[2 * RATE:] = np.random.default_rng(0).normal(0, 0.1, 15 * RATE // 4)
    fake(monkeypatch, noise, rate=16_000.0)
    result = call("run", demo, "--mic", "USB", "--events", "--json", "--start", "now", "-o",
                  tmp_path / "a.jsonl")
    assert result.code == 5
    assert "Error: the microphone USB Audio: #0 (hw:1,0) cannot be read" in result.err
    found = {line["label"]: line for line in map(json.loads, (tmp_path / "a.jsonl").read_text().splitlines())}
    assert (found["White noise"]["start"], found["White noise"]["end"]) == (2.0, 5.75)
    assert found["White noise"]["file"] == "microphone"
    assert "start_datetime" in found["White noise"]
    tags = [json.loads(line) for line in call("run", demo, "--mic", "--json").out.splitlines()]
    assert [line["end"] for line in tags] == [2, 4, 5.75]
