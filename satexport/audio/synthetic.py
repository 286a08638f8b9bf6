"""A labelled set that ships as code: sounds that code makes truthfully and AudioSet names.

For tests, demonstrations and gates where no recordings are at hand. A clip is made from
(split, index) alone, so a set is a range of numbers. Every sound runs through its clip: each
chunk of 2 s holds a part of it, and "Silence" holds nothing above a floor of -66 dBFS.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
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
ROOT_SEED: Final = 7_964_975      # any number: sets these clips apart from others made with PCG64
PEAK_DB: Final = (-24.0, -3.0)    # peak of the sound, dB below full scale
FLOOR_DB: Final = (-90.0, -66.0)  # RMS of the noise floor
BACKGROUND_DB: Final = (-12.0, -3.0)  # peak of a second, steady sound below the first
MICROPHONE_DB: Final = -66.0      # RMS of the noise of a MEMS microphone, dB below full scale
FLOORED: Final = 0.75             # share of clips with a floor; the others are digitally clean
MIXED: Final = 0.25               # share of clips with a second sound, where one goes with it
EDGE: Final = 0.005               # s, rise and fall of switched tones: no clicks
LATEST_START, LATEST_END = 0.5, 0.25  # s: most that a sound starts late or ends early
LEAST_RATE: Final = 16_000        # Hz: tones go up to 7.5 kHz

# ITU-T Q.23: a digit is one low and one high tone.
DTMF_LOW: Final = (697.0, 770.0, 852.0, 941.0)         # Hz
DTMF_HIGH: Final = (1209.0, 1336.0, 1477.0, 1633.0)    # Hz
# ITU-T E.180 and its supplement 2. The European dial tone (425 Hz alone) is left out: it is
# a sine wave and nothing else.
DIAL: Final = (350.0, 440.0)                           # Hz, North America, United Kingdom
BUSY: Final = (((480.0, 620.0), 0.5), ((425.0,), 0.5), ((425.0,), 0.25))  # Hz, s on = s off
# Test tones: octave centres of ISO 266. A tone of any pitch is a sine wave, too, but a small
# model did not learn all pitches from twenty thousand clips.
SINE: Final = (250.0, 500.0, 1000.0, 2000.0, 4000.0)   # Hz
# Time-signal pips 1000 Hz, North American recording tone 1400 Hz, piezo buzzers near 2000 Hz.
BEEP: Final = (1000.0, 1400.0, 2000.0)                 # Hz
# ISO 8201, "temporal three": on and off in turns, s; piezo sounders are near 3.1 kHz.
TEMPORAL_THREE: Final = (0.5, 0.5, 0.5, 0.5, 0.5, 1.5)
SMOKE_HZ: Final = (2900.0, 3300.0)
# SAE J1849: wail 10 to 30, yelp 150 to 250 cycles a minute, somewhere in 500 to 2000 Hz.
WAIL, YELP = (10 / 60, 30 / 60), (150 / 60, 250 / 60)  # cycles per second

Signal = NDArray[np.float64]
Rng = np.random.Generator
# Steady sounds and what stays audible over them.
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
    """Harmonics of amplitude 1/k over a phase [n] in cycles; none beyond half the rate."""
    top = float(np.max(hertz))
    total = np.zeros(len(phase))
    for k in order:
        if k * top < rate / 2:
            total += np.sin(2 * np.pi * k * phase) / k
    return total


def _switched(rate: int, n: int, durations: Sequence[float]) -> Signal:
    """Envelope [n] that is on and off in turns for these seconds, over and over."""
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
    along = np.arange(n) / rate / length % 1
    along = along if rng.random() < 0.5 else 1 - along
    hertz = low + (high - low) * along if rng.random() < 0.5 else low * (high / low) ** along
    fade = np.clip(np.minimum(along, 1 - along) * length / EDGE, 0, 1)
    return fade * np.sin(2 * np.pi * np.cumsum(hertz) / rate)


def _white(rng: Rng, rate: int, n: int) -> Signal:
    return rng.standard_normal(n)


def _coloured(rng: Rng, rate: int, n: int, slope: float) -> Signal:
    """Noise [n] whose power falls with frequency ** slope, from 20 Hz up."""
    spectrum = np.fft.rfft(rng.standard_normal(n))
    hertz = np.maximum(np.fft.rfftfreq(n, 1 / rate), 20.0)
    return np.fft.irfft(spectrum * hertz ** (-slope / 2), n)


def _pink(rng: Rng, rate: int, n: int) -> Signal:
    return _coloured(rng, rate, n, 1.0)


def _dtmf(rng: Rng, rate: int, n: int) -> Signal:
    """Random digits of 60 to 140 ms with pauses of 50 to 150 ms (Q.24 asks for 40 at least)."""
    on, off = rng.uniform(0.06, 0.14), rng.uniform(0.05, 0.15)
    length = round((on + off) * rate)
    digits = [_tones(rng, rate, length, [rng.choice(DTMF_LOW), rng.choice(DTMF_HIGH)])
              for _ in range(-(-n // length))]
    return np.concatenate(digits)[:n] * _switched(rate, n, (on, off))


def _dial(rng: Rng, rate: int, n: int) -> Signal:
    return _tones(rng, rate, n, DIAL)


def _busy(rng: Rng, rate: int, n: int) -> Signal:
    hertz, on = BUSY[rng.integers(len(BUSY))]
    return _tones(rng, rate, n, hertz) * _switched(rate, n, (on, on))


def _beep(rng: Rng, rate: int, n: int) -> Signal:
    """Short equal beeps, as of a time signal, an answering machine or a till."""
    hertz = rng.choice(BEEP)
    on, off = rng.uniform(0.06, 0.2), rng.uniform(0.15, 0.6)
    return _tones(rng, rate, n, [hertz, 3 * hertz], [1.0, 0.1]) * _switched(rate, n, (on, off))


def _hum(rng: Rng, rate: int, n: int) -> Signal:
    """50 or 60 Hz and its harmonics, the even ones (rectifiers, transformers) louder."""
    base = rng.choice([50.0, 60.0]) * rng.uniform(0.999, 1.001)
    order = np.arange(1, 11)
    levels = np.where(order % 2, 0.5, 1.0) * rng.uniform(0.3, 1.0, 10) / order
    return _tones(rng, rate, n, list(base * order), list(levels))


def _pulse(rng: Rng, rate: int, n: int) -> Signal:
    """Rectangular pulses of 0.1 to 2 ms, 5 to 16 a second."""
    period = round(rate / rng.uniform(5, 16))
    width = round(rate * _log_uniform(rng, 0.0001, 0.002))
    return (np.arange(n) % period < width).astype(float)


def _buzzer(rng: Rng, rate: int, n: int) -> Signal:
    """A saw or square wave of 90 to 350 Hz that goes on, or comes in long bursts."""
    hertz = rng.uniform(90, 350)
    order = range(1, 90, int(rng.integers(1, 3)))
    wave = _harmonics(rate, np.arange(n) * hertz / rate, hertz, order)
    return wave if rng.random() < 0.5 else wave * _switched(rate, n, (rng.uniform(0.6, 1.5), 0.3))


def _siren(rng: Rng, rate: int, n: int) -> Signal:
    """An electronic siren, wail or yelp: up and down without a pause, odd harmonics."""
    cycles = rng.uniform(*(WAIL if rng.random() < 0.5 else YELP))
    low, high = rng.uniform(500, 700), rng.uniform(1300, 1800)  # Hz
    turns = np.arange(n) / rate * cycles + rng.random()
    hertz = low + (high - low) * (0.5 - 0.5 * np.cos(2 * np.pi * turns))
    return _harmonics(rate, np.cumsum(hertz) / rate, hertz, (1, 3, 5))


def _smoke_alarm(rng: Rng, rate: int, n: int) -> Signal:
    hertz = rng.uniform(*SMOKE_HZ)
    return _tones(rng, rate, n, [hertz, 2 * hertz], [1.0, 0.2]) * _switched(rate, n, TEMPORAL_THREE)


def _silence(rng: Rng, rate: int, n: int) -> Signal:
    return np.zeros(n)


_MAKERS: Final[dict[str, Callable[[Rng, int, int], Signal]]] = {
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
SYNTHETIC_CLASSES: Final[tuple[str, ...]] = tuple(_MAKERS)


def _placed(rng: Rng, rate: int, n: int, label: str) -> Signal:
    """The sound at peak 1, from its random start to its random end in n samples."""
    start = round(rng.uniform(0, LATEST_START) * rate)
    end = n - round(rng.uniform(0, LATEST_END) * rate)
    start, end = (start, end) if end - start > n // 2 else (0, n)
    clip = np.zeros(n)
    sound = _MAKERS[label](rng, rate, end - start)
    clip[start:end] = sound / max(float(np.abs(sound).max()), 1e-9)
    return clip


def _decibels(rng: Rng, bounds: tuple[float, float]) -> float:
    return float(10 ** (rng.uniform(*bounds) / 20))


def _start(split: str, index: int) -> tuple[Rng, tuple[str, ...]]:
    """The clip's generator, and its labels, which are the first thing drawn from it."""
    if split not in SPLITS:
        raise DataError(f"no synthetic split {split!r}; the splits are {', '.join(SPLITS)}.")
    if not 0 <= index < len(SPLITS[split]):
        raise DataError(f"no synthetic clip {index}; {split} has 0 to {len(SPLITS[split]) - 1}.")
    rng = np.random.Generator(np.random.PCG64(
        np.random.SeedSequence([ROOT_SEED, SPLITS[split][index]])))
    label = SYNTHETIC_CLASSES[index % len(SYNTHETIC_CLASSES)]
    if label in FOREGROUNDS and rng.random() < MIXED:
        return rng, (label, str(rng.choice(BACKGROUNDS)))
    return rng, (label,)


def synthetic_labels(split: str, index: int) -> tuple[str, ...]:
    """The labels of `synthetic_clip(split, index)`, without making its audio."""
    return _start(split, index)[1]


def synthetic_clip(split: str, index: int, seconds: float = 6.0, *,
                   rate: int) -> tuple[NDArray[np.float32], tuple[str, ...]]:
    """Make clip `index` of a split: ([samples] float32 at `rate` Hz, in [-1, 1]; its labels).

    The same arguments always give the same clip; at another rate the labels are the same and the sound is
    another of its kind. Any `len(SYNTHETIC_CLASSES)` indices in a row hold each class once as the main sound.
    Raises `DataError` for a split or an index that does not exist, or a rate that is too low for the tones.
    """
    rng, labels = _start(split, index)
    if rate < LEAST_RATE:
        raise DataError(f"synthetic clips have tones up to 7.5 kHz, a rate of {rate} Hz is too low for them; "
                        f"expected at least {LEAST_RATE} Hz. Use recordings.")
    n = round(seconds * rate)
    if n < 1:
        raise DataError(f"a synthetic clip of {seconds} s has no samples; ask for more.")
    audio = _placed(rng, rate, n, labels[0])
    for second in labels[1:]:
        audio = audio + _decibels(rng, BACKGROUND_DB) * _placed(rng, rate, n, second)
    audio = audio / max(1.0, float(np.abs(audio).max())) * _decibels(rng, PEAK_DB)
    if rng.random() < FLOORED:
        floor = _coloured(rng, rate, n, rng.uniform(0, 1))
        audio = audio + _decibels(rng, FLOOR_DB) * floor / max(float(floor.std()), 1e-9)
    return audio.astype(np.float32), labels


def synthetic_stream(seconds: float, split: str = "evaluate", *, rate: int) -> NDArray[np.float32]:
    """Clips of a split one after another, as a microphone gives them: 16 bits, and its own noise
    under every sound but silence. [samples] float32 at `rate` Hz.

    Without that noise a clean loud tone leaves mel bins that hold little but float32 rounding,
    PyTorch's own as well: for seeded weights its scores are then more than 1e-4 away from those of
    a float64 front end, and two right front ends differ by as much.
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
