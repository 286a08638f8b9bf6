"""Options that several commands share."""

from __future__ import annotations

import math
from typing import Any

import click

from satexport.errors import UsageError


class Seconds(click.FloatRange):
    """A range of seconds or minutes; NaN, which compares with no bound, is outside of it."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        number = super().convert(value, param, ctx)
        if math.isnan(number):
            self.fail(f"{value} is not in the range {self.min:g} to {self.max:g}.", param, ctx)
        return number


minutes_option = click.option("--minutes", type=Seconds(0.1, 240), default=10.0, show_default=True,
                              help="Length of the stream for differences and drift.")
json_option = click.option("--json", "as_json", is_flag=True,
                           help="Print the machine-readable result on standard output.")
threads_option = click.option("--threads", type=click.IntRange(1, 256), metavar="N",
                              help="Threads of the runtime. Default: the target's; without any measure takes "
                                   "all cores, the other commands leave it to the runtime.")

cache_dtype_option = click.option(
    "--cache-dtype", default="fp32", show_default=True, type=click.Choice(["fp32", "fp16", "int8"]),
    help="How the cache is stored, where the runtime can: fp16 halves the state, int8 quarters it.")


def parse_folds(text: str | None) -> list[int] | None:
    """"1,2" to [1, 2]."""
    if text is None:
        return None
    try:
        return [int(part) for part in text.split(",")]
    except ValueError:
        raise UsageError(f"--folds {text}: expected numbers such as 4 or 1,2.") from None


def parse_streams(text: str) -> int:
    """"8" to 8, "dynamic" to ANY."""
    from satexport.bundle.contract import ANY

    if text == "dynamic":
        return ANY
    if not text.isdecimal() or int(text) < 1:
        raise UsageError(f"--streams {text}: expected a number from 1, or dynamic.")
    return int(text)
