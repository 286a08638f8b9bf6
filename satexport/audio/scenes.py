"""Synthetic scenes: a minute of sounds with gaps between them, and when each begins and ends.

Strongly labelled audio that ships as code, made of the sounds of `satexport.audio.synthetic`, with seeds of
its own. Each event of 0.5 to 8 s is one sound; between events there is only a noise floor.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from typing import Final

import numpy as np
from numpy.typing import NDArray

from satexport.audio.clips import Clip, SoundEvent
from satexport.audio.synthetic import (
    EDGE,
    FLOOR_DB,
    GENERATORS,
    MIN_RATE,
    PEAK_DB,
    Signal,
    colored_noise,
    draw_gain,
)
from satexport.errors import DataError
from satexport.step import PCM_SCALE

SCENE_SEED: Final = 18_527_060    # arbitrary; separates scenes from clips and from other uses of PCG64
SPLITS: Final = {"choose": range(0, 1_000_000), "evaluate": range(1_000_000, 2_000_000)}  # seeds, disjoint
SECONDS: Final = 60.0
EVENT_SECONDS: Final = (0.5, 8.0)
GAP_SECONDS: Final = (0.5, 5.0)
EVENTS, SOUNDS = 0, 1              # parts of a scene with random numbers of their own
SCENES: Final = 10                # in a set
SCENE_CLASSES: Final = tuple(label for label in GENERATORS if label != "Silence")


def scene(split: str, index: int, seconds: float = SECONDS, *,
          rate: int) -> tuple[NDArray[np.float32], tuple[SoundEvent, ...]]:
    """Synthesize scene `index` of a split: its audio, [samples] float32 at `rate` Hz in [-1, 1] as 16 bits
    give it, and its events in the order of time.

    The same arguments always give the same scene; at another rate its sounds differ, its events do not.
    Raises `DataError` for a split or an index that does not exist, and for a rate that is too low for the
    tones.
    """
    if rate < MIN_RATE:
        raise DataError(f"the sample rate is {rate} Hz; expected at least {MIN_RATE} Hz, because scenes have "
                        "tones up to 7.5 kHz. Use recordings.")
    events, rng = scene_events(split, index, seconds), _random(split, index, SOUNDS)
    floor = colored_noise(rng, rate, round(seconds * rate), rng.uniform(0, 1))
    audio = draw_gain(rng, FLOOR_DB) * floor / floor.std()
    for event in events:
        begin, end = round(event.onset * rate), round(event.offset * rate)
        audio[begin:end] += draw_gain(rng, PEAK_DB) * _sound(rng, rate, end - begin, event.label)
    pcm = np.clip(np.round(audio * PCM_SCALE), -PCM_SCALE, PCM_SCALE - 1)
    return np.asarray(pcm / PCM_SCALE, np.float32), events


def scene_events(split: str, index: int, seconds: float = SECONDS) -> tuple[SoundEvent, ...]:
    """The events of `scene(split, index, seconds)`, without its audio: those that end within it. All labels
    come once before one comes again."""
    rng, events, at = _random(split, index, EVENTS), list[SoundEvent](), 0.0
    while True:
        for number in rng.permutation(len(SCENE_CLASSES)):
            onset = round(at + rng.uniform(*GAP_SECONDS), 3)
            at = round(onset + rng.uniform(*EVENT_SECONDS), 3)
            if at > seconds:
                return tuple(events)
            events.append(SoundEvent(onset, at, SCENE_CLASSES[number]))


def _random(split: str, index: int, what: int) -> np.random.Generator:
    """The generator of a scene's events or of its sounds."""
    if split not in SPLITS or index not in range(len(SPLITS[split])):
        raise DataError(f"there is no scene {index} in {split!r}; expected 0 to {len(SPLITS['choose']) - 1} "
                        f"in one of {', '.join(SPLITS)}.")
    return np.random.Generator(np.random.PCG64(
        np.random.SeedSequence([SCENE_SEED, SPLITS[split][index], what])))


def _sound(rng: np.random.Generator, rate: int, n: int, label: str) -> Signal:
    """A sound [n] with peak 1, faded in and out against clicks."""
    sound = GENERATORS[label](rng, rate, n)
    edge = np.minimum(np.arange(n) + 1, np.arange(n, 0, -1)) / (EDGE * rate)
    return sound / max(float(np.abs(sound).max()), 1e-9) * np.minimum(edge, 1)


def scene_clips(split: str, indices: range) -> list[Clip]:
    """The scenes of a split with these indices, with strong labels."""
    planned = {index: scene_events(split, index) for index in indices}
    return [Clip(f"scene-{split}-{index}", tuple(dict.fromkeys(event.label for event in events)),
                 partial(_audio, split, index), events) for index, events in planned.items()]


def _audio(split: str, index: int, rate: int) -> Iterator[NDArray[np.float32]]:
    yield scene(split, index, rate=rate)[0]


def scene_set(split: str = "evaluate") -> tuple[list[Clip], dict[str, object]]:
    """The scenes that evaluate, or those of another split, and their origin."""
    seeds = SPLITS[split]
    return scene_clips(split, range(SCENES)), {
        "kind": "scenes", "split": split, "seeds": [seeds[0], seeds[SCENES - 1]]}
