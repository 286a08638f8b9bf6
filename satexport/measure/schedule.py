"""When steps are timed: what "burst" and "paused" mean in every report, as numbers and as turns.

Standard library alone, so that the command line can show the defaults.
"""

from __future__ import annotations

from dataclasses import dataclass

TURNS = 10           # of a burst
STEPS = 40           # of one of them, at most
WARM_UP = 2          # steps before each of them, which do not count
TURN_SECONDS = 1.0   # a turn is over after so much work
PAUSED_TURNS = 2
PAUSED_STEPS = 10    # of one of them, at most
PAUSE = 0.25         # before each step after a pause, s


@dataclass(frozen=True)
class Turn:
    """Steps that are timed in a row."""

    steps: int       # at most
    seconds: float   # the turn is over after so much work; it has one step at least
    pause: float     # before each step, s; 0: a burst, which begins with WARM_UP steps that do not count


def plan_turns(steps: int = STEPS, pause: float = PAUSE) -> list[Turn]:
    """The turns of one measurement: bursts of so many `steps` at most, then steps after a `pause`, s,
    above 0."""
    burst = Turn(steps, TURN_SECONDS, 0.0)
    paused = Turn(min(steps, PAUSED_STEPS), TURN_SECONDS, pause)
    return [burst] * TURNS + [paused] * PAUSED_TURNS
