"""A labelled set that ships as code: sounds of AudioSet classes that can be synthesized realistically.

For tests, demonstrations and gates when no recordings are available. A clip is determined by its split and
index, so a set is a range of numbers. A sound lasts for its whole clip: each chunk of 2 s contains some of
it. "Silence" contains nothing above a noise floor of -66 dBFS.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import lru_cache
from typing import Final

import numpy as np
from numpy.typing import NDArray

from satexport.errors import DataError
from satexport.step import PCM_SCALE

SPLITS: Final = {  # seeds, disjoint
    "train": range(0, 1_000_000),
    "calibrate": range(1_000_000, 2_000_000),
    "evaluate": range(2_000_000, 3_000_000),
}
ROOT_SEED: Final = 7_964_975      # arbitrary; separates these clips from other uses of PCG64
PEAK_DB: Final = (-24.0, -3.0)    # peak of the sound, dB re full scale
FLOOR_DB: Final = (-90.0, -66.0)  # RMS of the noise floor, dB re full scale
BACKGROUND_DB: Final = (-12.0, -3.0)  # peak of the background sound, dB re the main sound
MICROPHONE_DB: Final = -66.0      # RMS of the noise of a MEMS microphone, dB re full scale
FLOOR_SHARE: Final = 0.75         # share of clips with a noise floor; the others are digitally clean
MIXED_SHARE: Final = 0.25         # share of clips with a background sound, in classes that allow one
KEPT_CLIPS: Final = 128           # in memory, 49 MB: parity's stream consists of the first clips of its set
EDGE: Final = 0.005               # s; rise and fall time of switched tones, to avoid clicks
MAX_START, MAX_EARLY_END = 0.5, 0.25  # s; latest start, and earliest end before the end of the clip
MIN_RATE: Final = 16_000          # Hz; tones go up to 7.5 kHz

# ITU-T Q.23: a digit is one low and one high tone.
DTMF_LOW: Final = (697.0, 770.0, 852.0, 941.0)         # Hz
DTMF_HIGH: Final = (1209.0, 1336.0, 1477.0, 1633.0)    # Hz
# ITU-T E.180 and its supplement 2. The European dial tone, a single tone of 425 Hz, is left out, because it
# cannot be told from a sine wave.
DIAL: Final = (350.0, 440.0)                           # Hz, North America, United Kingdom
BUSY: Final = (((480.0, 620.0), 0.5), ((425.0,), 0.5), ((425.0,), 0.25))  # Hz, s on = s off
# Test tones at the octave centres of ISO 266. Any other pitch would be a sine wave too, but a small model did
# not learn all pitches from twenty thousand clips.
SINE: Final = (250.0, 500.0, 1000.0, 2000.0, 4000.0)   # Hz
# Time-signal pips 1000 Hz, North American recording tone 1400 Hz, piezo buzzers near 2000 Hz.
BEEP: Final = (1000.0, 1400.0, 2000.0)                 # Hz
# ISO 8201, "temporal three" pattern: alternating on and off times, s. Piezo sounders are near 3.1 kHz.
TEMPORAL_THREE: Final = (0.5, 0.5, 0.5, 0.5, 0.5, 1.5)
SMOKE_HZ: Final = (2900.0, 3300.0)
# SAE J1849: wail 10 to 30, yelp 150 to 250 cycles per minute, within 500 to 2000 Hz.
WAIL, YELP = (10 / 60, 30 / 60), (150 / 60, 250 / 60)  # cycles per second

Signal = NDArray[np.float64]
Rng = np.random.Generator
# Steady sounds, and sounds that remain audible over them.
BACKGROUNDS: Final = ("White noise", "Pink noise", "Mains hum")
FOREGROUNDS: Final = ("Sine wave", "Chirp tone", "Telephone dialing, DTMF", "Busy signal",
                      "Beep, bleep", "Siren", "Smoke detector, smoke alarm")


def _log_uniform(rng: Rng, low: float, high: float) -> float:
    return float(np.exp(rng.uniform(np.log(low), np.log(high))))


def _tones(rng: Rng, rate: int, n: int, hertz: Sequence[float], levels: Sequence[float] | None = None
           ) -> Signal:
    """Sum of sines [n] with random phases."""
    time = np.arange(n) / rate
    total = np.zeros(n)
    for f, level in zip(hertz, levels or [1.0] * len(hertz), strict=True):
        total += level * np.sin(2 * np.pi * f * time + rng.uniform(0, 2 * np.pi))
    return total


def _harmonics(rate: int, phase: Signal, hertz: Signal | float, order: Sequence[int]) -> Signal:
    """Harmonics of amplitude 1/k over a phase [n] in cycles; none above half the sample rate."""
    top = float(np.max(hertz))
    total = np.zeros(len(phase))
    for k in order:
        if k * top < rate / 2:
            total += np.sin(2 * np.pi * k * phase) / k
    return total


def _on_off_envelope(rate: int, n: int, durations: Sequence[float]) -> Signal:
    """Envelope [n] that alternates between on and off for these durations in seconds, repeatedly."""
    ends = np.cumsum([round(s * rate) for s in durations])
    position = np.arange(n) % ends[-1]
    on = (np.searchsorted(ends, position, side="right") % 2 == 0).astype(float)
    edge = np.hanning(round(EDGE * rate) + 2)
    return np.convolve(on, edge / edge.sum(), mode="same")


def _sine(rng: Rng, rate: int, n: int) -> Signal:
    return _tones(rng, rate, n, [rng.choice(SINE)])


def _chirp(rng: Rng, rate: int, n: int) -> Signal:
    """Sweeps of at least two octaves in one direction, one after another."""
    low, high = _log_uniform(rng, 200, 700), _log_uniform(rng, 2800, 7500)
    length = rng.uniform(0.4, 1.8)  # s
    progress = np.arange(n) / rate / length % 1  # of each sweep, 0 to 1
    progress = progress if rng.random() < 0.5 else 1 - progress
    hertz = low + (high - low) * progress if rng.random() < 0.5 else low * (high / low) ** progress
    fade = np.clip(np.minimum(progress, 1 - progress) * length / EDGE, 0, 1)
    return fade * np.sin(2 * np.pi * np.cumsum(hertz) / rate)


def _white(rng: Rng, rate: int, n: int) -> Signal:
    return rng.standard_normal(n)


def colored_noise(rng: Rng, rate: int, n: int, slope: float) -> Signal:
    """Noise [n] whose power falls with frequency ** slope above 20 Hz."""
    spectrum = np.fft.rfft(rng.standard_normal(n))
    hertz = np.maximum(np.fft.rfftfreq(n, 1 / rate), 20.0)
    return np.fft.irfft(spectrum * hertz ** (-slope / 2), n)


def _pink(rng: Rng, rate: int, n: int) -> Signal:
    return colored_noise(rng, rate, n, 1.0)


def _dtmf(rng: Rng, rate: int, n: int) -> Signal:
    """Random digits of 60 to 140 ms with pauses of 50 to 150 ms (ITU-T Q.24 requires at least 40 ms each)."""
    on, off = rng.uniform(0.06, 0.14), rng.uniform(0.05, 0.15)
    length = round((on + off) * rate)
    digits = [_tones(rng, rate, length, [rng.choice(DTMF_LOW), rng.choice(DTMF_HIGH)])
              for _ in range(-(-n // length))]
    return np.concatenate(digits)[:n] * _on_off_envelope(rate, n, (on, off))


def _dial(rng: Rng, rate: int, n: int) -> Signal:
    return _tones(rng, rate, n, DIAL)


def _busy(rng: Rng, rate: int, n: int) -> Signal:
    hertz, on = BUSY[rng.integers(len(BUSY))]
    return _tones(rng, rate, n, hertz) * _on_off_envelope(rate, n, (on, on))


def _beep(rng: Rng, rate: int, n: int) -> Signal:
    """Short equal beeps, like those of a time signal, an answering machine or a cash register."""
    hertz = rng.choice(BEEP)
    on, off = rng.uniform(0.06, 0.2), rng.uniform(0.15, 0.6)
    return _tones(rng, rate, n, [hertz, 3 * hertz], [1.0, 0.1]) * _on_off_envelope(rate, n, (on, off))


def _hum(rng: Rng, rate: int, n: int) -> Signal:
    """50 or 60 Hz and its harmonics, with louder even ones, as from rectifiers and transformers."""
    base = rng.choice([50.0, 60.0]) * rng.uniform(0.999, 1.001)
    order = np.arange(1, 11)
    levels = np.where(order % 2, 0.5, 1.0) * rng.uniform(0.3, 1.0, 10) / order
    return _tones(rng, rate, n, list(base * order), list(levels))


def _pulse(rng: Rng, rate: int, n: int) -> Signal:
    """Rectangular pulses of 0.1 to 2 ms, 5 to 16 per second."""
    period = round(rate / rng.uniform(5, 16))
    width = round(rate * _log_uniform(rng, 0.0001, 0.002))
    return (np.arange(n) % period < width).astype(float)


def _buzzer(rng: Rng, rate: int, n: int) -> Signal:
    """A sawtooth or square wave of 90 to 350 Hz, continuous or in long bursts."""
    hertz = rng.uniform(90, 350)
    order = range(1, 90, int(rng.integers(1, 3)))
    wave = _harmonics(rate, np.arange(n) * hertz / rate, hertz, order)
    return wave if rng.random() < 0.5 else wave * _on_off_envelope(rate, n, (rng.uniform(0.6, 1.5), 0.3))


def _siren(rng: Rng, rate: int, n: int) -> Signal:
    """An electronic siren, wail or yelp: the pitch goes up and down continuously; odd harmonics."""
    rate_of_cycles = rng.uniform(*(WAIL if rng.random() < 0.5 else YELP))
    low, high = rng.uniform(500, 700), rng.uniform(1300, 1800)  # Hz
    cycles = np.arange(n) / rate * rate_of_cycles + rng.random()
    hertz = low + (high - low) * (0.5 - 0.5 * np.cos(2 * np.pi * cycles))
    return _harmonics(rate, np.cumsum(hertz) / rate, hertz, (1, 3, 5))


def _smoke_alarm(rng: Rng, rate: int, n: int) -> Signal:
    hertz = rng.uniform(*SMOKE_HZ)
    return _tones(rng, rate, n, [hertz, 2 * hertz], [1.0, 0.2]) * _on_off_envelope(rate, n, TEMPORAL_THREE)


def _silence(rng: Rng, rate: int, n: int) -> Signal:
    return np.zeros(n)


GENERATORS: Final[dict[str, Callable[[Rng, int, int], Signal]]] = {
    "Sine wave": _sine,
    "Chirp tone": _chirp,
    "White noise": _white,
    "Pink noise": _pink,
    "Telephone dialing, DTMF": _dtmf,
    "Dial tone": _dial,
    "Busy signal": _busy,
    "Beep, bleep": _beep,
    "Mains hum": _hum,
    "Pulse": _pulse,
    "Buzzer": _buzzer,
    "Siren": _siren,
    "Smoke detector, smoke alarm": _smoke_alarm,
    "Silence": _silence,
}
SYNTHETIC_CLASSES: Final[tuple[str, ...]] = tuple(GENERATORS)


def _place_sound(rng: Rng, rate: int, n: int, label: str) -> Signal:
    """A sound with peak 1 that starts and ends at random times within n samples."""
    start = round(rng.uniform(0, MAX_START) * rate)
    end = n - round(rng.uniform(0, MAX_EARLY_END) * rate)
    start, end = (start, end) if end - start > n // 2 else (0, n)
    clip = np.zeros(n)
    sound = GENERATORS[label](rng, rate, end - start)
    clip[start:end] = sound / max(float(np.abs(sound).max()), 1e-9)
    return clip


def draw_gain(rng: Rng, decibels: tuple[float, float]) -> float:
    """A random amplitude factor between two levels in dB."""
    return float(10 ** (rng.uniform(*decibels) / 20))


def _draw_labels(split: str, index: int) -> tuple[Rng, tuple[str, ...]]:
    """The clip's random generator, and its labels, which are drawn from it first."""
    if split not in SPLITS:
        raise DataError(f"there is no synthetic split {split!r}; expected one of {', '.join(SPLITS)}.")
    if not 0 <= index < len(SPLITS[split]):
        raise DataError(f"there is no synthetic clip {index} in {split}; expected 0 to "
                        f"{len(SPLITS[split]) - 1}.")
    rng = np.random.Generator(np.random.PCG64(
        np.random.SeedSequence([ROOT_SEED, SPLITS[split][index]])))
    label = SYNTHETIC_CLASSES[index % len(SYNTHETIC_CLASSES)]
    if label in FOREGROUNDS and rng.random() < MIXED_SHARE:
        return rng, (label, str(rng.choice(BACKGROUNDS)))
    return rng, (label,)


def synthetic_labels(split: str, index: int) -> tuple[str, ...]:
    """The labels of `synthetic_clip(split, index)`, without computing its audio."""
    return _draw_labels(split, index)[1]


def synthetic_clip(split: str, index: int, seconds: float = 6.0, *,
                   rate: int) -> tuple[NDArray[np.float32], tuple[str, ...]]:
    """Synthesize clip `index` of a split: its audio, [samples] float32 at `rate` Hz in [-1, 1], and its
    labels.

    The same arguments always give the same clip; at another rate the labels are the same, but the sound is a
    different one of the same class. Among any `len(SYNTHETIC_CLASSES)` consecutive clips, each class is the
    main sound once. Raises `DataError` for a split or an index that does not exist, and for a rate that is
    too low for the tones.
    """
    return _synthesize(split, index, seconds, rate)


@lru_cache(KEPT_CLIPS)
def _synthesize(split: str, index: int, seconds: float, rate: int
                ) -> tuple[NDArray[np.float32], tuple[str, ...]]:
    rng, labels = _draw_labels(split, index)
    if rate < MIN_RATE:
        raise DataError(f"the sample rate is {rate} Hz; expected at least {MIN_RATE} Hz, because synthetic "
                        "clips have tones up to 7.5 kHz. Use recordings.")
    n = round(seconds * rate)
    if n < 1:
        raise DataError(f"a synthetic clip of {seconds} s has no samples; expected at least one. Request a "
                        "longer clip.")
    audio = _place_sound(rng, rate, n, labels[0])
    for background in labels[1:]:
        audio = audio + draw_gain(rng, BACKGROUND_DB) * _place_sound(rng, rate, n, background)
    audio = audio / max(1.0, float(np.abs(audio).max())) * draw_gain(rng, PEAK_DB)
    if rng.random() < FLOOR_SHARE:
        floor = colored_noise(rng, rate, n, rng.uniform(0, 1))
        audio = audio + draw_gain(rng, FLOOR_DB) * floor / max(float(floor.std()), 1e-9)
    result = audio.astype(np.float32)
    result.flags.writeable = False  # others get it, too
    return result, labels


def synthetic_stream(seconds: float, split: str = "evaluate", *, rate: int) -> NDArray[np.float32]:
    """Concatenated clips of a split, as a microphone would deliver them: quantized to 16 bits, with
    microphone noise added to every clip except silence. [samples] float32 at `rate` Hz.

    Without that noise, a clean loud tone leaves mel bins that contain little but float32 rounding error, in
    PyTorch as well: for seeded weights its scores then differ by more than 1e-4 from those of a float64 front
    end, and so do the scores of two correct front ends.
    """
    n = round(seconds * rate)
    rng = np.random.Generator(np.random.PCG64(ROOT_SEED))
    parts: list[NDArray[np.float64]] = []
    while sum(map(len, parts)) < n:
        clip, labels = synthetic_clip(split, len(parts), rate=rate)
        noise = 0.0 if labels == ("Silence",) else 10 ** (MICROPHONE_DB / 20)
        parts.append(clip + noise * rng.standard_normal(len(clip)))
    audio = np.concatenate(parts)[:n] if parts else np.zeros(0)
    pcm = np.clip(np.round(audio * PCM_SCALE), -PCM_SCALE, PCM_SCALE - 1)
    return np.asarray(pcm / PCM_SCALE, np.float32)
