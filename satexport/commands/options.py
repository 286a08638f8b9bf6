"""Options that several commands share."""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from satexport.errors import UsageError

if TYPE_CHECKING:
    from satexport.cluster import ClusterOptions


class WholeNumber(click.IntRange):
    """A range of whole numbers."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        try:
            return super().convert(value, param, ctx)
        except click.BadParameter:
            upper = "" if self.max is None else f" to {self.max:g}"
            self.fail(f"{value} is not a whole number from {self.min:g}{upper}.", param, ctx)


class Range(click.FloatRange):
    """A range of numbers. Rejects NaN, which `click.FloatRange` accepts."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        number = super().convert(value, param, ctx)
        if math.isnan(number):
            self.fail(f"{value} is not in the range {self.min:g} to {self.max:g}.", param, ctx)
        return number


class Seconds(Range):
    """A range of seconds or minutes."""


minutes_option = click.option("--minutes", type=Seconds(0.1, 240), default=10.0, show_default=True,
                              help="Minutes of audio over which to compare scores and measure their drift.")
json_option = click.option("--json", "as_json", is_flag=True,
                           help="Print the result as JSON on standard output.")
spinning_option = click.option("--spinning", is_flag=True,
                               help="ONNX Runtime's threads, if there are several, use their cores also "
                                    "while they wait: shorter steps, several times the CPU time. Other "
                                    "runtimes do not do so.")
LIVE = ("as few as live streams need, which costs the least CPU time: one for most models (see "
        "docs/live.md).")

cache_dtype_option = click.option(
    "--cache-dtype", default="fp32", show_default=True, type=click.Choice(["fp32", "fp16", "int8"]),
    help="Data type of the cache, if the runtime supports it: fp16 halves the state, int8 quarters it.")

skip_unreadable_option = click.option(
    "--skip-unreadable", is_flag=True,
    help="Leave out clips that are missing or cannot be read, and list them. Default: an error after all "
         "others have been scored. (Missing clips of an AudioSet csv are always left out and listed.)")


def threads_option(default: str) -> Callable[..., Any]:
    """Return the option --threads; `default` says what a command does if the target sets no number."""
    return click.option("--threads", type=WholeNumber(1, 256), metavar="N",
                        help="Threads of the runtime. Default: the target's. If the target sets none, "
                             f"{default}")


def cluster_options(default: str) -> Callable[..., Any]:
    """Return the options of `ClusterOptions`; `default` says what a command does without them."""
    pem = click.Path(path_type=Path)
    options = (
        click.option("--workers", type=WholeNumber(1, 1024), metavar="N",
                     help=f"Worker processes on this machine, one thread each. Default: {default}"),
        click.option("--scheduler", metavar="ADDRESS",
                     help="Use the workers of a Dask cluster that runs already, such as tcp://HOST:8786. "
                          "They must see the same paths and have the same satexport."),
        click.option("--tls-ca", type=pem, metavar="PEM",
                     help="TLS of the scheduler: the certificate authority,"),
        click.option("--tls-cert", type=pem, metavar="PEM", help="the certificate of this command,"),
        click.option("--tls-key", type=pem, metavar="PEM", help="and its key."))

    def decorate(command: Callable[..., Any]) -> Callable[..., Any]:
        for option in reversed(options):
            command = option(command)
        return command

    return decorate


def parse_cluster(workers: int | None, scheduler: str | None, tls_ca: Path | None, tls_cert: Path | None,
                  tls_key: Path | None) -> ClusterOptions | None:
    """Return the options of `cluster_options`; None if none was given. Raises `UsageError` if they do not fit
    together."""
    from satexport.cluster import ClusterOptions

    given = {"workers": workers, "scheduler": scheduler, "tls_ca": tls_ca, "tls_cert": tls_cert,
             "tls_key": tls_key}
    return ClusterOptions(**given) if any(given.values()) else None  # type: ignore[arg-type]


def embedding_option(help_text: str) -> Callable[..., Any]:
    """Return the option --embedding [KIND]. Its value without KIND is "", which no kind is called; without
    the option it is None."""
    return click.option("--embedding", is_flag=False, flag_value="", metavar="[KIND]", help=help_text)


def parse_folds(text: str | None) -> list[int] | None:
    """Parse "1,2" to [1, 2]. Raises `UsageError` if a part is no number."""
    if text is None:
        return None
    try:
        return [int(part) for part in text.split(",")]
    except ValueError:
        raise UsageError(f"--folds {text}: expected numbers such as 4 or 1,2.") from None


def parse_streams(text: str) -> int:
    """Parse "8" to 8 and "dynamic" to ANY. Raises `UsageError` for anything but these and a number from 1."""
    from satexport.bundle.contract import ANY

    if text == "dynamic":
        return ANY
    if not text.isdecimal() or int(text) < 1:
        raise UsageError(f"--streams {text}: expected a number from 1, or dynamic.")
    return int(text)
