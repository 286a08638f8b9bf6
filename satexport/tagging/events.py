"""Events: sounds with a beginning and an end, found in the scores of chunks. Imports only numpy.

From scores to events, in this order:

1. The score of each label is smoothed: the median of `smooth_chunks` chunks around each chunk. Beyond both
   ends of the sound, its first and its last chunk are repeated.
2. An event begins with the chunk whose score reaches the threshold `on`, and lasts while the score reaches
   `off`, which is lower or the same (hysteresis).
3. Events of a label with a gap of at most `bridge_seconds` between them become one.
4. Events shorter than `least_seconds` are dropped.

A group takes the place of its labels: its score is the maximum of theirs, and it is on where any of them is.
Times have the resolution of a chunk: an event begins where the first of its chunks does.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from satexport.bundle.thresholds import DEFAULT, OperatingPoint, threshold_arrays
from satexport.errors import UsageError
from satexport.step import FloatArray

NO_CUT = (0.0, 0.0)
EXACT = 1e-9  # share of a chunk by which seconds may miss a whole number of chunks


@dataclass(frozen=True, kw_only=True)
class Group:
    """Labels that are reported as one."""

    labels: tuple[str, ...]
    threshold: OperatingPoint | None = None  # for each of its labels; None: their own


@dataclass(frozen=True, kw_only=True)
class EventOptions:
    """What counts as an event. Raises `UsageError` if a value is out of its range."""

    on: float = DEFAULT             # an event begins at a score from this on
    off: float | None = None        # and lasts while the score is at least this; None: the same as `on`
    thresholds: Mapping[str, OperatingPoint] = field(default_factory=dict)  # of single labels
    least_seconds: float = 0.0      # shorter events are dropped
    bridge_seconds: float = 0.0     # gaps up to this do not end an event
    smooth_chunks: int = 1          # of the median, odd; 1: none
    groups: Mapping[str, Group] = field(default_factory=dict)  # by name; empty: each label is reported

    def __post_init__(self) -> None:
        conditions = (
            ("the threshold", self.on, 0 < self.on <= 1, "more than 0, at most 1"),
            ("the threshold off", self.off, self.off is None or 0 <= self.off <= self.on,
             f"at most {self.on:g}, the threshold at which events begin"),
            ("the least length", self.least_seconds, 0 <= self.least_seconds < math.inf, "seconds"),
            ("the gap to bridge", self.bridge_seconds, 0 <= self.bridge_seconds < math.inf, "seconds"),
            ("the number of chunks to smooth over", self.smooth_chunks,
             self.smooth_chunks >= 1 and self.smooth_chunks % 2 == 1, "an odd number such as 3"))
        for name, value, is_valid, expected in conditions:
            if not is_valid:
                raise UsageError(f"{name} is {value}; expected {expected}.")


@dataclass(frozen=True, kw_only=True)
class Event:
    """A sound from its first to its last chunk."""

    label: str                  # or the name of a group
    begin: float                # s of the stream: the start of its first chunk
    end: float | None           # the end of its last chunk, s; None while it lasts
    score: float                # the highest of its smoothed scores, until now if it lasts
    mean_score: float           # their mean
    level_dbfs: float | None    # 10 log10 of the mean square; None: digital silence, or not known


class Delay(NamedTuple):
    """How long after its beginning, and after its end, an event is reported, at most, in seconds."""

    begin: float
    end: float


class EventFinder:
    """Finds the events of one stream, chunk by chunk. However the chunks are split, the events are the same.

    An event is reported twice: when it is certain that it has begun (its `end` is None), and when it is
    certain that it has ended.
    """

    def __init__(self, labels: Sequence[str], hop_seconds: float, options: EventOptions) -> None:
        """`labels` in the order of the scores; a chunk is `hop_seconds` long. Raises `UsageError` if a group
        has a label that is not one of them."""
        self._hop, self._options = hop_seconds, options
        self._least = max(1, math.ceil(options.least_seconds / hop_seconds - EXACT))  # chunks
        self._bridge = math.floor(options.bridge_seconds / hop_seconds + EXACT)
        self._half = options.smooth_chunks // 2
        self._columns = _Columns(labels, options)
        self._window: deque[tuple[FloatArray, float]] = deque(maxlen=options.smooth_chunks)
        self._count = 0  # smoothed chunks
        self._open: dict[int, _Open] = {}  # column -> its event, perhaps too short, perhaps over

    @property
    def delay_seconds(self) -> Delay:
        """The delay from the least length, the gap to bridge, half of the smoothing, and the chunk that
        decides."""
        in_gap = self._bridge if self._least > 1 else 0  # it may reach its least length only after a gap
        return Delay((self._half + self._least + in_gap) * self._hop,
                     (self._half + self._bridge + 1) * self._hop)

    def add(self, scores: ArrayLike, powers: Iterable[float] | None = None) -> list[Event]:
        """Add scores [chunks, classes], and the mean square of each chunk's samples if it is known. Returns
        the events that have begun or ended, in this order."""
        rows = np.asarray(scores, np.float32)
        found: list[Event] = []
        for row, power in zip(rows, [math.nan] * len(rows) if powers is None else powers, strict=True):
            if not self._window:  # the first chunk is repeated before the beginning
                self._window.extend([(row, power)] * self._half)
            found += self._add_raw(row, power)
        return found

    def finish(self, end_seconds: float = math.inf) -> list[Event]:
        """End all events, because the stream has ended at `end_seconds`, perhaps within the last chunk, which
        counts in full for the least length. Returns events as `add` does."""
        found: list[Event] = []
        if self._window:
            last = self._window[-1]
            for _ in range(self._half):  # the last chunk is repeated after the end
                found += self._add_raw(*last)
            missing = max(0.0, self._count - end_seconds / self._hop)  # share of the last chunk
            for column, event in sorted(self._open.items()):
                if event.is_reported:
                    cut = (missing, last[1]) if event.end == self._count else NO_CUT
                    found.append(self._event(column, event, has_ended=True, cut=cut))
        self._open.clear()
        return [event if event.end is None else replace(event, end=min(event.end, end_seconds))
                for event in found]

    def _add_raw(self, row: FloatArray, power: float) -> list[Event]:
        self._window.append((row, power))
        if len(self._window) < self._options.smooth_chunks:
            return []
        if self._half:
            row = np.median([scores for scores, _ in self._window], axis=0)
            power = self._window[self._half][1]
        return self._add_smoothed(row, power)

    def _add_smoothed(self, row: FloatArray, power: float) -> list[Event]:
        found = []
        scores, is_on = self._columns.add(row)
        for column in sorted({*np.flatnonzero(is_on).tolist(), *self._open}):
            event = self._open.get(column)
            if event is None:
                event = self._open[column] = _Open(begin=self._count, end=self._count)
            event.add(float(scores[column]), power)
            if is_on[column]:
                event.extend(self._count + 1)
                if not event.is_reported and event.end - event.begin >= self._least:
                    event.is_reported = True
                    found.append(self._event(column, event))
            elif self._count + 1 - event.end > self._bridge:
                del self._open[column]
                if event.is_reported:
                    found.append(self._event(column, event, has_ended=True))
        self._count += 1
        return found

    def _event(self, column: int, event: _Open, has_ended: bool = False,
               cut: tuple[float, float] = NO_CUT) -> Event:
        """`cut` is what share of its last chunk is behind the end of the sound, and that chunk's power, which
        counts for the rest only."""
        missing, last_power = cut
        power = (event.sums.power - missing * last_power) / (event.end - event.begin - missing)
        return Event(label=self._columns.names[column], begin=event.begin * self._hop,
                     end=event.end * self._hop if has_ended else None, score=event.sums.peak,
                     mean_score=event.sums.score / (event.end - event.begin),
                     level_dbfs=10 * math.log10(power) if power > 0 else None)


def find_events(labels: Sequence[str], hop_seconds: float, options: EventOptions, scores: ArrayLike,
                powers: Iterable[float] | None = None, end_seconds: float = math.inf) -> list[Event]:
    """Return the events of a whole sound, by their beginnings, from its scores [chunks, classes]. The
    arguments are those of `EventFinder` and its methods."""
    finder = EventFinder(labels, hop_seconds, options)
    return ended([*finder.add(scores, powers), *finder.finish(end_seconds)])


def ended(events: Iterable[Event]) -> list[Event]:
    """Of the reports of a finder, those of events that have ended, by their beginnings."""
    return sorted((event for event in events if event.end is not None), key=lambda event: event.begin)


class _Columns:
    """What is reported, labels or groups, and whether it is on: by hysteresis of each label."""

    def __init__(self, labels: Sequence[str], options: EventOptions) -> None:
        usual = OperatingPoint(on=options.on, off=options.off)
        groups = options.groups or {label: Group(labels=(label,)) for label in labels}
        places = {label: number for number, label in enumerate(labels)}
        if unknown := [label for group in groups.values() for label in group.labels if label not in places]:
            raise UsageError(f"a group has the label {unknown[0]!r}; expected labels of the model.")
        members = [(label, group.threshold or options.thresholds.get(label, usual))
                   for group in groups.values() for label in group.labels]
        self.names = list(groups)
        self._members = np.array([places[label] for label, _ in members])
        self._starts = np.cumsum([0, *(len(group.labels) for group in groups.values())])[:-1]
        self._on, self._off = threshold_arrays([point for _, point in members])
        self._is_on = np.zeros(len(members), bool)

    def add(self, row: FloatArray) -> tuple[FloatArray, NDArray[np.bool_]]:
        """Add the next scores [classes]. Returns score and state of each column."""
        scores = row[self._members]
        self._is_on = scores >= np.where(self._is_on, self._off, self._on)
        return (np.maximum.reduceat(scores, self._starts),
                np.logical_or.reduceat(self._is_on, self._starts))


class _Sums(NamedTuple):
    peak: float = 0.0
    score: float = 0.0
    power: float = 0.0


NOTHING = _Sums()


@dataclass
class _Open:
    """An event that may still grow. Sums are over all chunks until `end`, `later` until now."""

    begin: int  # chunk
    end: int    # behind its last chunk
    sums: _Sums = NOTHING
    later: _Sums = NOTHING
    is_reported: bool = False

    def add(self, score: float, power: float) -> None:
        self.later = _Sums(max(self.later.peak, score), self.later.score + score, self.later.power + power)

    def extend(self, end: int) -> None:
        self.end, self.sums = end, self.later
