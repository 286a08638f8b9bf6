"""Synthetic scenes."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest

from satexport.audio.datasets import load_set
from satexport.audio.labels import audioset_labels
from satexport.audio.scenes import SCENE_CLASSES, SCENES, scene, scene_events
from satexport.errors import DataError

RATE = 16_000  # Hz


def test_a_scene_has_its_sounds_where_its_events_are_and_only_a_noise_floor_between() -> None:
    audio, events = scene("evaluate", 3, rate=RATE)
    assert audio.dtype == np.float32
    assert audio.shape == (60 * RATE,)
    assert len(events) >= 5
    assert all(0.5 <= event.offset - event.onset <= 8 for event in events)
    gaps = [later.onset - event.offset for event, later in pairwise(events)]
    assert min(gaps) >= 0.499
    heard = np.zeros(len(audio), bool)
    for event in events:
        begin, end = round(event.onset * RATE), round(event.offset * RATE)
        assert np.abs(audio[begin:end]).max() > 0.05
        heard[begin:end] = True
    assert np.abs(audio[~heard]).max() < 0.005


def test_scenes_are_the_same_each_time_and_differ_from_each_other() -> None:
    assert np.array_equal(scene("choose", 0, rate=RATE)[0], scene("choose", 0, rate=RATE)[0])
    plans = {scene_events(split, index) for split in ("choose", "evaluate") for index in range(5)}
    assert len(plans) == 10
    assert scene("choose", 0, 20, rate=32_000)[1] == scene("choose", 0, 20, rate=RATE)[1]


def test_the_set_of_scenes_has_strong_labels_of_every_class() -> None:
    found = load_set("scenes", audioset_labels())
    assert (len(found.clips), set(found.classes)) == (SCENES, set(SCENE_CLASSES))
    assert found.clips[3].events == scene_events("evaluate", 3)
    assert found.origin["seeds"] == [1_000_000, 1_000_009]


@pytest.mark.parametrize(("split", "index", "rate"), [
    ("train", 0, RATE), ("choose", -1, RATE), ("choose", 1_000_000, RATE), ("choose", 0, 8_000)])
def test_a_scene_that_does_not_exist_is_refused(split: str, index: int, rate: int) -> None:
    with pytest.raises(DataError, match="expected"):
        scene(split, index, rate=rate)
