"""The schedule of a measurement: what "burst" and "paused" mean in every report.

Imports only the standard library, so that the command line can show the defaults.
"""

from __future__ import annotations

from dataclasses import dataclass

TURNS = 10           # bursts
STEPS = 40           # at most, in each burst
WARM_UP = 2          # steps before each burst, which do not count
TURN_SECONDS = 1.0   # a turn ends when its steps have taken this long
PAUSED_TURNS = 2     # turns of steps after pauses
PAUSED_STEPS = 10    # at most, in each of them
PAUSE = 0.25         # before and after each of their steps, s; threads of ONNX Runtime spin for 0.04 s


@dataclass(frozen=True)
class Turn:
    """Steps that are timed one after the other."""

    steps: int       # at most
    seconds: float   # the turn ends when its steps have taken this long; it has at least one step
    pause: float     # before and after each step, s; 0: a burst, which begins with WARM_UP steps that do not
                     # count


def plan_turns(steps: int = STEPS, pause: float = PAUSE) -> list[Turn]:
    """Return the turns of one measurement: bursts of at most `steps` steps, then turns of steps that each
    follow a `pause` in seconds, above 0."""
    burst = Turn(steps, TURN_SECONDS, 0.0)
    paused = Turn(min(steps, PAUSED_STEPS), TURN_SECONDS, pause)
    return [burst] * TURNS + [paused] * PAUSED_TURNS
