"""Lists with strong labels."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from satexport.audio.clips import SoundEvent
from satexport.audio.datasets import load_set
from satexport.audio.labels import audioset_labels
from satexport.errors import DataError
from tests.machine import need

soundfile = need("soundfile", "audio")
LABELS = audioset_labels()
DCASE = "filename\tonset\toffset\tevent_label\n"
AUDIOSET = "segment_id\tstart_time_seconds\tend_time_seconds\tlabel\n"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder with audio of a few names."""
    (tmp_path / "audio").mkdir()
    for name in ("a.wav", "audio/b.wav", "audio/Yvid-1_30000.wav", "vid_2_10.wav"):
        soundfile.write(tmp_path / name, np.zeros(16_000, np.float32), 16_000)
    return tmp_path


def write(folder: Path, text: str) -> Path:
    (folder / "strong.tsv").write_text(text, encoding="utf-8")
    return folder / "strong.tsv"


def test_a_dcase_list_gives_the_events_of_each_recording(folder: Path) -> None:
    path = write(folder, DCASE + "a.wav\t0.5\t1.25\tSiren\nb.wav\t\t\t\na.wav\t0\t9\tdog\n"
                                 "a.wav\t1\t2\tSiren\n")
    found = load_set(path, LABELS)
    first, second = found.clips
    assert (first.name, first.labels) == ("a.wav", ("Siren", "Dog"))  # dog is a category of ESC-50
    assert first.events == (SoundEvent(0.5, 1.25, "Siren"), SoundEvent(0, 9, "Dog"),
                            SoundEvent(1, 2, "Siren"))
    assert (second.name, second.labels, second.events) == ("b.wav", (), ())
    assert len(second.read(16_000)) == 16_000
    assert found.classes == ("Dog", "Siren")


def test_an_audioset_strong_list_names_videos_and_machine_ids(folder: Path) -> None:
    path = write(folder, AUDIOSET + "vid-1_30000\t0\t1\t/m/09x0r\nvid_2_10000\t0.1\t0.2\t/m/0bt9lr\n"
                                    "vid_2_10000\t0.1\t0.9\t/t/dd00000\nabsent_0\t0\t1\t/m/09x0r\n")
    found = load_set(path, LABELS)
    assert [clip.name for clip in found.clips] == ["Yvid-1_30000.wav", "vid_2_10.wav"]
    assert [clip.events for clip in found.clips] == [(SoundEvent(0, 1, "Speech"),),
                                                     (SoundEvent(0.1, 0.2, "Dog"),)]
    assert {key: found.origin[key] for key in ("missing_clips", "ignored_events", "events")} == {
        "missing_clips": ["absent_0"], "ignored_events": 1, "events": 2}


def test_a_set_with_labels_of_clips_only_has_no_events(few_clips: Path) -> None:
    assert all(clip.events is None for clip in load_set(few_clips, LABELS).clips)


@pytest.mark.parametrize(("text", "words"), [
    ("filename,onset\n", "its first line is 'filename,onset'; expected tabs between the columns segment_id,"),
    (DCASE, "has no rows below its header"),
    (DCASE + "\na.wav\t0\t1\n", "line 3: is 'a.wav\\t0\\t1'; expected filename, onset, offset, event_label"),
    (DCASE + "\t0\t1\tDog\n", "line 2: is"),
    (DCASE + "a.wav\t0\tx\tDog\n", "line 2: the times are '0' and 'x'; expected numbers"),
    (DCASE + "a.wav\t2\t1\tDog\n", "line 2: the event lasts from 2 to 1 s; expected it to end after"),
    (DCASE + "a.wav\t0\tnan\tDog\n", "line 2: the event lasts from 0 to nan s"),
    (DCASE + "a.wav\t-1\t1\tDog\n", "line 2: the event lasts from -1"),
    (DCASE + "a.wav\t0\t1e12\tDog\n", "line 2: the event lasts from 0 to 1e12 s"),
    (DCASE + "a.wav\t0\t1\t\n", "line 2: the event has no label"),
    (DCASE + "c.wav\t0\t1\tDog\n", "1 of 1 audio files are missing"),
    (DCASE + "a.wav\t0\t1\tUnicorn\n", "no label for Unicorn (line 2). Map these categories"),
    (DCASE + "a.wav\n", "no clip has a label"),
    (AUDIOSET + "x_0\t0\t1\t/m/09x0r\n", "none of its 1 recordings is in")])
def test_a_list_that_does_not_fit_is_refused(folder: Path, text: str, words: str) -> None:
    with pytest.raises(DataError) as error:
        load_set(write(folder, text), LABELS)
    assert words in error.value.message
